import { describe, expect, it } from 'vitest';
import {
  leftoverFolder,
  nonceOfOwner,
  nonceOfStepOwner,
  ownerName,
  parseLeftover,
  stepFolder,
  stepOwnerName,
  versionOfStep,
} from '../../../src/transports/filesystem/layout.js';

const NONCE = '00ff00ff00ff00ff';

describe('names in a publication directory', () => {
  it.each([
    ['step_0', 0],
    ['step_17', 17],
    ['step_9007199254740991', Number.MAX_SAFE_INTEGER],
    ['step_9007199254740992', null],
    ['step_007', null],
    ['step_-1', null],
    ['step_1.tmp', null],
    ['xstep_1', null],
  ])('%s is version %s', (name, version) => {
    expect(versionOfStep(name)).toBe(version);
  });

  it('say what is left over, and whose it is', () => {
    for (const kind of ['partial', 'trash'] as const) {
      const leftover = { kind, nonce: NONCE, version: 12 };
      const path = leftoverFolder('/d', leftover);
      expect(path).toBe(`/d/.weightcast/${kind}-${NONCE}-step_12`);
      expect(parseLeftover(path.slice('/d/.weightcast/'.length))).toEqual(leftover);
    }
    expect(nonceOfOwner(ownerName(NONCE))).toBe(NONCE);
    expect(nonceOfStepOwner(stepOwnerName(NONCE))).toBe(NONCE);
    expect(stepFolder('/d', 3)).toBe('/d/step_3');
  });

  it.each(['leases', `partial-${NONCE}-step_01`, `partial-${NONCE.slice(1)}-step_1`, `x-${NONCE}-step_1`])(
    'of others are left alone: %s',
    (name) => {
      expect(parseLeftover(name)).toBeNull();
      expect(nonceOfOwner(name)).toBeNull();
    },
  );
});
