/** Adapters of a reference Dynamo worker: load_lora, unload_lora, and /v1/loras (contracts/dynamo.md 1.9; test/vectors/dynamo/lora.json). */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Core } from '../server/core.js';
import { isObject, type JsonObject } from '../server/validation.js';

export interface LoraAnswer extends Record<string, unknown> {
  readonly status: 'success' | 'error';
}

const failed = (message: string): LoraAnswer => ({ status: 'error', message });

export class Loras {
  readonly #core: Core;
  readonly #hotSwap: boolean;

  constructor(core: Core, hotSwap: boolean) {
    this.#core = core;
    this.#hotSwap = hotSwap;
  }

  load(body: JsonObject): LoraAnswer {
    const { lora_name: name, source } = body;
    if (typeof name !== 'string') return failed("'lora_name' is required and must be a string");
    const uri = isObject(source) ? source.uri : undefined;
    if (typeof uri !== 'string') return failed("'source' object is required in request");
    const { loras } = this.#core;
    const wasLoaded = loras.has(name);
    const path = uri.startsWith('file://') ? fileURLToPath(uri) : null;
    // A loaded name is a success without effect, whatever its source is now.
    if (!wasLoaded || this.#hotSwap) {
      if (path === null || !existsSync(path)) {
        return failed(`Failed to download LoRA: Download failed: Local LoRA not found: ${uri}`);
      }
      loras.set(name, path);
    }
    const swapped = wasLoaded && this.#hotSwap;
    const did = swapped ? 'hot-swapped successfully' : wasLoaded ? 'already loaded' : 'loaded successfully';
    return {
      status: 'success',
      message: `LoRA adapter '${name}' ${did}`,
      lora_name: name,
      lora_id: idOf(name),
      hot_swap: swapped,
    };
  }

  unload(body: JsonObject): LoraAnswer {
    const { lora_name: name } = body;
    if (typeof name !== 'string') return failed("'lora_name' is required and must be a string");
    const { loras } = this.#core;
    if (!loras.delete(name)) {
      const available = [...loras.keys()].map((each) => `'${each}'`).join(', ');
      return failed(`LoRA adapter '${name}' not found. Available LoRAs: [${available}]`);
    }
    return {
      status: 'success',
      message: `LoRA adapter '${name}' unloaded successfully`,
      lora_name: name,
      lora_id: idOf(name),
    };
  }

  list(): LoraAnswer {
    const loras = Object.fromEntries([...this.#core.loras.keys()].map((name) => [name, idOf(name)]));
    return { status: 'success', loras, count: this.#core.loras.size };
  }
}

/** The same for the same name, on every worker. */
function idOf(name: string): number {
  return createHash('sha256').update(name).digest().readUInt32LE(0) & 0x7fff_ffff;
}
