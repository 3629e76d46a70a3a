/** What every GPU case begins with. */
import { randomBytes } from 'node:crypto';
import { mkdir, open, rename, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { CaseContext } from '../../case.js';
import { type Bare, buildBare } from '../bare.js';
import { type Lane, openLane } from '../lane.js';

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

export interface Setup extends Lane {
  readonly bare: Bare;
}

/** @throws Error without a GPU: `npm run bench:gpu` asks first */
export async function setUp(context: CaseContext): Promise<Setup> {
  const lane = await openLane();
  if ('skipped' in lane) throw new Error(lane.skipped);
  const { facts } = lane;
  context.version('GPU', facts.device);
  context.version(
    'CUDA driver API',
    `${Math.floor(facts.cudaVersion / 1000)}.${(facts.cudaVersion % 1000) / 10}`,
  );
  context.version('NCCL', `${facts.ncclVersion} ${facts.ncclLibrary}`);
  await mkdir(context.scratch, { recursive: true });
  return { ...lane, bare: await buildBare(facts, context.scratch) };
}

/** A file of random bytes, kept in the scratch folder. */
export async function fileOf(context: CaseContext, byteLength: number): Promise<string> {
  const path = join(context.scratch, `random-${byteLength}`);
  const there = await stat(path).then(
    ({ size }) => size === byteLength,
    () => false,
  );
  if (there) return path;
  const disk = await statfs(context.scratch);
  if (disk.bavail * disk.bsize < byteLength * 1.1) {
    throw new Error(
      `${context.scratch} lacks room for ${byteLength} bytes: name another folder with --scratch`,
    );
  }
  const block = randomBytes(64 * MIB);
  const file = await open(`${path}.draft`, 'w');
  try {
    for (let at = 0; at < byteLength; at += block.length) {
      await file.write(block, 0, Math.min(block.length, byteLength - at));
    }
  } finally {
    await file.close();
  }
  await rename(`${path}.draft`, path);
  return path;
}
