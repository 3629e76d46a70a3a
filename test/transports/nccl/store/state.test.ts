import { expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../../../src/transports/nccl/store/limits.js';
import { type Peer, StoreState } from '../../../../src/transports/nccl/store/state.js';

const key = 'ready';

it('wakes who waits for a key although its writer can be given no reply', () => {
  const state = new StoreState(DEFAULT_LIMITS);
  let woken = 0;
  state.wait({ wake: () => (woken += 1) }, [key]);
  const writer: Peer = {
    wake: () => undefined,
    reply: () => {
      throw new Error('no memory');
    },
  };
  expect(() => state.apply(writer, { kind: 'add', key, delta: 1n })).toThrow('no memory');
  expect(woken).toBe(1);
});
