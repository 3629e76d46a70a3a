import { describe, it } from 'vitest';
import { type EndingName, expectEnds, type StateName } from '../teardown/support/endings.js';
import { expectWell } from '../teardown/support/handles.js';

// The whole matrix, on three Nodes, is test/teardown.
const busy: readonly StateName[] = [
  'init with a missing peer',
  'broadcast whose receiver stalls',
  'running transfer',
  'sha256 job',
  'write job',
  'write job from a device that is busy',
];
const ends: readonly EndingName[] = [
  'process.exit',
  'uncaught error',
  'worker.terminate()',
  'process.exit in a Worker',
];

describe('a process or a Worker that ends in the middle of something', () => {
  for (const state of busy)
    for (const ending of ends) it(`${state}: ${ending}`, () => expectEnds(state, ending, {}));

  it('closes a communicator that was collected as garbage', () =>
    expectWell('collect.mjs', ['idle', 'communicator'], {}));

  it('reads a buffer that only the read still holds', () =>
    expectWell('collect.mjs', ['busy', 'buffer'], {}));

  it('writes from buffers that only the write still holds', () =>
    expectWell('collect.mjs', ['busy', 'write'], {}));

  it('ends by itself when a communicator is open and nothing is pending', () =>
    expectEnds('communicator ready', 'natural end', {}));
});
