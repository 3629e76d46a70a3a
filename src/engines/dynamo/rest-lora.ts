/** Adapters by `/v1/loras` of the system port, for workers without the engine routes (contracts/dynamo.md 1.9). */
import type { EngineAdmin } from '../admin.js';
import type { Calls } from './calls.js';
import * as read from './read.js';
import { LORA_REMEDY, loraSource } from './worker.js';

export function restLora(calls: Calls): Pick<EngineAdmin, 'loadLoraAdapter' | 'unloadLoraAdapter'> {
  const done = read.says('status', 'success');
  return {
    loadLoraAdapter: ({ name, path }) =>
      calls.post('/v1/loras', {
        operation: 'load_lora',
        budget: 'load',
        retryable: true,
        body: { lora_name: name, source: loraSource(path) },
        read: done,
        ifMissing: LORA_REMEDY,
      }),
    unloadLoraAdapter: ({ name }) =>
      calls.delete(`/v1/loras/${encodeURIComponent(name)}`, {
        operation: 'unload_lora',
        budget: 'load',
        read: done,
        ifMissing: LORA_REMEDY,
      }),
  };
}
