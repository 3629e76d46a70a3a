/** The weight version that an engine is to record. */
import { createHash } from 'node:crypto';
import { basename, dirname } from 'node:path';
import type { EngineLink } from '../fleet/engine.js';
import type { Checkpoint } from '../weights/checkpoint.js';
import type { Attempt } from './attempt.js';

/** What the user gave; where that is nothing, null, or for an engine that needs one a tag that tells this checkpoint from others. */
export function tagFor(
  { version, checkpoint }: Pick<Attempt, 'version' | 'checkpoint'>,
  { admin }: EngineLink,
): string | null {
  if (version !== null || admin.capabilities.needsWeightVersion !== true) return version;
  // Of no files no tag can be made: a recovery whose weights are gone.
  return checkpoint.files.length === 0 ? null : checkpointTag(checkpoint);
}

const IDENTITY_CHARS = 12;
const NAME_CHARS = 64;

/** 'step_7-0c3f9a1b22d4': the name of its folder, and which files they were. */
export function checkpointTag({ path, files }: Pick<Checkpoint, 'path' | 'files'>): string {
  const hash = createHash('sha256');
  for (const file of files) hash.update(`${JSON.stringify(basename(file.path))} ${file.stamp}\n`);
  const name = basename(path ?? dirname(files[0]?.path ?? 'weights'));
  const plain = name.replaceAll(/[^\w.-]/g, '_').slice(0, NAME_CHARS);
  return `${plain}-${hash.digest('hex').slice(0, IDENTITY_CHARS)}`;
}
