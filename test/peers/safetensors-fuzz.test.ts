/** The reference safetensors library and we judge random and damaged files alike; `npm run fuzz:safetensors` asks about millions. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { lane } from './support/lane.js';
import { compare } from './support/safetensors-fuzz/compare.js';
import { ourVerdict } from './support/safetensors-fuzz/ours.js';
import { Reference } from './support/safetensors-fuzz/reference.js';
import { fileOf } from './support/safetensors-fuzz/well-formed.js';
import { safetensorsPackages } from './support/venv.js';

const FILES = 20_000;
const LONGEST_HEADER = 100_000_000;

await lane('safetensors fuzz', safetensorsPackages, (python) => {
  let reference: Reference;
  beforeAll(() => {
    reference = new Reference(python.python);
  });
  afterAll(() => reference[Symbol.asyncDispose]());

  test.each([20_261_121, Math.floor(Math.random() * 2 ** 32)])(
    'what differs in 10,000 files is known, and in one direction only (seed %i)',
    async (seed) => {
      const { accepted, known, unexplained } = await compare(reference, { seed, files: FILES / 2 });
      expect(unexplained).toEqual([]);
      // Else the files would prove only that broken JSON is refused, or our reader would be more lenient than it says.
      expect(accepted).toBeGreaterThan(FILES / 20);
      expect([...known.keys()].map(({ fact }) => fact)).toContain('duplicate key');
    },
  );

  test('both read the longest header that there may be, and refuse one byte more', async () => {
    const header = Buffer.alloc(LONGEST_HEADER + 1, ' ');
    header.write('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}');
    const longest = fileOf(header.subarray(0, LONGEST_HEADER), Buffer.of(7));
    const longer = fileOf(header, Buffer.of(7));
    const [taken, refused] = await reference.judge([longest, longer]);
    expect(ourVerdict(longest)).toBe(taken);
    expect(taken).toMatch(/^\+T1:a U8/);
    expect(refused).toContain('header too large');
    expect(ourVerdict(longer)).toMatch(/^-a header of 100000001 bytes/);
  });
});
