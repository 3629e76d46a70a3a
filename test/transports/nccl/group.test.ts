/** What a group that does not come about is said to have failed by; groups that stand are in test/update. */
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import type { EngineAdmin } from '../../../src/engines/admin.js';
import { WeightcastError } from '../../../src/errors.js';
import type { EngineLink } from '../../../src/fleet/engine.js';
import type { NativeCommunicator, NativeRuntime } from '../../../src/native.js';
import { openGroup } from '../../../src/transports/nccl/group.js';

const URL = 'http://127.0.0.1:9';

/** One engine that takes the id in the request, and rank 0. */
function open(parts: { readonly call: EngineLink['call']; readonly init: NativeCommunicator['init'] }) {
  const onSilent = vi.fn();
  const admin = {
    capabilities: { uniqueId: 'inline' },
    initBroadcaster: () => ({}),
  } as unknown as EngineAdmin;
  const engine = { id: URL, url: URL, admin, call: parts.call } as unknown as EngineLink;
  const communicator = {
    ...{ init: parts.init, allReduce: async () => new Float32Array([0]) },
    ...{ abort: async () => {}, destroy: async () => {} },
  } as unknown as NativeCommunicator;
  const runtime = {
    uniqueId: async () => new Uint8Array(128),
    communicator: async () => communicator,
  } as unknown as NativeRuntime;
  const group = openGroup({
    ...{ runtime, device: 0, packing: null, masterAddress: '127.0.0.1', masterPort: 0, timeoutMs: 60_000 },
    ...{ members: [{ engine, workers: 1, processStart: null }], onSilent },
  });
  return { group, onSilent };
}

const silent = new WeightcastError('WC_ENGINE_TIMEOUT', 'no answer', { details: { sent: true } });

describe('an engine that has not answered when rank 0 gives up', () => {
  it('is not the cause, also where rank 0 takes longer to say why: both have the same time', async () => {
    const { group, onSilent } = open({
      call: () => Promise.reject(silent),
      init: async () => {
        await setImmediate();
        throw new WeightcastError('WC_NCCL_TIMEOUT', 'a rank does not take part');
      },
    });
    await expect(group).rejects.toMatchObject({ code: 'WC_NCCL_TIMEOUT' });
    expect(onSilent).toHaveBeenCalledWith(expect.objectContaining({ id: URL }), {
      inNccl: true,
      cause: silent,
    });
  });

  it('is the cause where rank 0 is in the group', async () => {
    const { group } = open({ call: () => Promise.reject(silent), init: async () => {} });
    await expect(group).rejects.toMatchObject({ code: 'WC_ENGINE_TIMEOUT', engine: URL });
  });
});
