import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasCode } from '../../../src/errors.js';
import { type DiffPairs, NO_BASE, native } from '../../../src/native.js';
import { type Entry, NeedsZstd, Refused, readDelta } from './delta-reader.js';
import { expectTrue, type FuzzTarget } from './target.js';

/** Bytes, bytes of an element, and whether the version before has it. One has a block of its own for its last bytes. */
const TENSORS = [
  [1200, 2, true],
  [1 << 20, 4, true],
  [(1 << 20) + 48, 8, true],
  [300, 1, true],
  [50, 1, false],
  [0, 2, true],
] as const;
const TOTAL = TENSORS.reduce((sum, [bytes]) => sum + bytes, 0);
/** The whole second tensor may be raw in a mutant: no valid input has it. */
const MOST_BYTES = 32 * 1024;

interface Place {
  readonly folder: string;
  readonly base: Buffer;
  readonly entries: readonly Entry[];
}

let place: Place | null = null;

/** A folder with the version before, made once. */
function placeOf(): Place {
  if (place !== null) return place;
  const folder = mkdtempSync(join(tmpdir(), 'weightcast-fuzz-delta-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const base = Buffer.alloc(TOTAL);
  for (let i = 0; i < base.length; ++i) base[i] = Math.imul(i, 0x9e3779b1) >>> 24;
  writeFileSync(join(folder, 'base'), base);
  let offset = 0;
  const entries = TENSORS.map(([byteLength, elementBytes, isBased]): Entry => {
    const bytes = base.subarray(offset, offset + byteLength);
    offset += byteLength;
    return { byteLength, elementBytes, base: isBased ? bytes : null };
  });
  place = { folder, base, entries };
  return place;
}

function pairs(folder: string): Omit<DiffPairs, 'newFile' | 'newOffset'> {
  const offsets = TENSORS.map((_, i) => TENSORS.slice(0, i).reduce((sum, [bytes]) => sum + bytes, 0));
  return {
    files: [join(folder, 'base')],
    fileSizes: Float64Array.of(TOTAL),
    baseFile: Uint32Array.from(TENSORS, ([, , isBased]) => (isBased ? 0 : NO_BASE)),
    baseOffset: Float64Array.from(offsets),
    length: Float64Array.from(TENSORS, ([bytes]) => bytes),
    elementBytes: Uint8Array.from(TENSORS, ([, width]) => width),
    threads: 1,
  };
}

async function encoded(step: number, codec: 'none' | 'zstd'): Promise<Uint8Array> {
  const { folder, base } = placeOf();
  const now = Buffer.from(base);
  for (let at = 0; at < now.length; at += step) now[at] = (now[at] as number) ^ (1 + (at % 7));
  const [newPath, deltaPath] = [join(folder, 'new'), join(folder, 'encoded')];
  writeFileSync(newPath, now);
  const { files, fileSizes, baseOffset, ...rest } = pairs(folder);
  await native().encodeDelta(
    {
      ...rest,
      ...{ baseOffset, newOffset: baseOffset, newFile: new Uint32Array(TENSORS.length).fill(1) },
      ...{ files: [...files, newPath], fileSizes: Float64Array.of(TOTAL, fileSizes[0] as number) },
      ...{ deltaPath, codec, sync: false },
    },
    null,
  ).result;
  const bytes = readFileSync(deltaPath);
  for (const path of [newPath, deltaPath]) rmSync(path);
  return bytes;
}

/** A file that says what changed. What the product's reader takes and makes of it is what one does that was written from the format's description. */
export const deltaFile: FuzzTarget = {
  name: 'delta-file',
  seeds: async () => {
    const seeds = [];
    for (const [step, codec] of [
      [300_000, 'none'],
      [700, 'none'],
      [100, 'none'],
      [700, 'zstd'],
    ] as const)
      seeds.push(await encoded(step, codec));
    return seeds.filter(({ length }) => length <= MOST_BYTES);
  },
  run: async (input) => {
    const { folder, entries } = placeOf();
    const expected = expectedOf(Buffer.from(input), entries);
    const [deltaPath, target] = [join(folder, 'delta'), join(folder, 'made')];
    writeFileSync(deltaPath, input);
    const { baseOffset, ...rest } = pairs(folder);
    const job = {
      ...{ ...rest, baseOffset, targetOffset: baseOffset, deltaPath, targets: [target], sync: false },
      ...{ targetHeads: [new Uint8Array()], targetSizes: Float64Array.of(TOTAL) },
      target: new Uint32Array(TENSORS.length),
    };
    const digests = await native()
      .applyDelta(job, null)
      .result.catch((error: unknown) => {
        if (!hasCode(error, 'WC_DELTA_INVALID')) throw error;
        return null;
      });
    expectTrue(existsSync(target) === (digests !== null), 'what it made of a bad delta is left');
    rmSync(target, { force: true });
    if (expected === 'unknown') return;
    expectTrue(
      (digests === null) === (expected === null),
      `${digests === null ? 'refused' : 'taken'}, unlike by the description`,
    );
    if (digests === null || expected === null) return;
    const hashes = expected.map((bytes) => createHash('sha256').update(bytes).digest());
    expectTrue(Buffer.concat(hashes).equals(digests), 'it makes other bytes of it');
  },
};

/** Null: no delta. */
function expectedOf(input: Buffer, entries: readonly Entry[]): readonly Buffer[] | null | 'unknown' {
  try {
    return readDelta(input, entries);
  } catch (error) {
    if (error instanceof NeedsZstd) return 'unknown';
    if (error instanceof Refused) return null;
    throw error;
  }
}
