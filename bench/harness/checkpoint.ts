/** Checkpoints that cases share, written once into the scratch folder. */
import { mkdir, readdir, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { type Checkpoint, openCheckpoint } from '#weightcast/weights/checkpoint.js';
import { qwen3TensorsOf } from '#weightcast/weights/models/qwen3.js';
import { writeCheckpoint } from '#weightcast/weights/write.js';
import type { CaseContext } from '../case.js';

const GIB = 2 ** 30;
/** A layer of Qwen3-8B holds 385,892,864 bytes; without embeddings, 22 of them are 7.91 GiB. */
const LAYER = { hidden: 4096, heads: 32, keyValueHeads: 8, head: 128, intermediate: 12_288 };
const LAYER_BYTES = 385_892_864;
const EMBEDDING_ROW_BYTES = 2 * LAYER.hidden;

/**
 * A sharded checkpoint of exactly so many GiB in the shape of Qwen3-8B, random finite bytes: whole layers, and an embedding of the size that
 * is missing. Kept in the scratch folder.
 */
export async function checkpointOf(context: CaseContext, gibibytes: number): Promise<Checkpoint> {
  const directory = join(context.scratch, `checkpoint-${gibibytes}gib`);
  const isThere = await readdir(directory).then(
    () => true,
    () => false,
  );
  if (!isThere) await write(directory, gibibytes * GIB, context);
  return await openCheckpoint(directory, { signal: context.signal });
}

async function write(directory: string, bytes: number, context: CaseContext): Promise<void> {
  await mkdir(context.scratch, { recursive: true });
  const disk = await statfs(context.scratch);
  if (disk.bavail * disk.bsize < bytes * 1.1) {
    throw new Error(`${context.scratch} lacks room for ${bytes} bytes: name another folder with --scratch`);
  }
  context.log(`writing ${bytes / GIB} GiB to ${directory} (once)`);
  const finalNorm = 2 * LAYER.hidden;
  const layers = Math.floor((bytes - finalNorm) / LAYER_BYTES);
  const vocabulary = Math.floor((bytes - finalNorm - layers * LAYER_BYTES) / EMBEDDING_ROW_BYTES);
  const draft = `${directory}.draft-${process.pid}`;
  try {
    await writeCheckpoint(draft, qwen3TensorsOf({ ...LAYER, layers, vocabulary, tied: true }), {
      shards: Math.max(2, Math.round(bytes / (2 * GIB))),
      signal: context.signal,
    });
    await rename(draft, directory);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}
