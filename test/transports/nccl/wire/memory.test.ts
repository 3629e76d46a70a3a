import { describe, expect, it } from 'vitest';
import { stagingFor } from '../../../../src/transports/nccl/wire/memory.js';

const MIB = 2 ** 20;

describe('staging memory', () => {
  it('is two slots of 64 MiB and four pinned pieces of 16 MiB', () => {
    expect(stagingFor({ largestFrame: 5 * MIB })).toEqual({
      slots: 2,
      slotBytes: 64 * MIB,
      pieces: 4,
      pieceBytes: 16 * MIB,
      peakBytes: { device: 128 * MIB, pinned: 64 * MIB },
    });
  });

  it('grows its slots to the largest frame, and nothing else with the model', () => {
    const staging = stagingFor({ largestFrame: 300 * MIB + 1 }, { slotBytes: MIB, slots: 3 });
    expect(staging.slotBytes).toBeGreaterThanOrEqual(300 * MIB + 1);
    expect(staging.slotBytes % 4096).toBe(0);
    expect(staging.peakBytes).toEqual({ device: 3 * staging.slotBytes, pinned: 64 * MIB });
  });

  it('never has fewer than two slots, since copies and broadcasts overlap', () => {
    expect(stagingFor({ largestFrame: 0 }, { slots: 1, slotBytes: 1 })).toMatchObject({
      slots: 2,
      slotBytes: 4096,
    });
  });
});
