/** The publication of a delta: struck and judged as any other. */
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { applyDelta } from '../../src/transports/filesystem/delta/index.js';
import { publish } from '../../src/transports/filesystem/publish/index.js';
import { type CommitMode, type Expected, NEW, OLD } from './publish.js';
import { treeOf } from './see.js';
import { writeVersion } from './weights.js';

/** Version 2 is a delta of version 1. */
export async function undisturbedDelta(root: string, commit: CommitMode, tensors: number): Promise<Expected> {
  const folder = join(root, `expected-delta-${commit}`);
  const old = await writeVersion(folder, OLD, tensors);
  const source = await writeVersion(folder, NEW, tensors);
  const template = join(folder, 'template');
  const first = await publish(old, { directory: template, version: OLD, commit });
  const before = await treeOf(template);
  const clean = join(folder, 'clean');
  await cp(template, clean, { recursive: true });
  const options = { commit, delta: true };
  const second = await publish(source, { directory: clean, version: NEW, ...options });
  // What every strike is held against gives the very weights.
  const made = await applyDelta(second, first, { into: join(folder, 'applied'), version: NEW });
  const whole = await publish(source, { directory: join(folder, 'whole'), version: NEW });
  if (second.manifest.kind !== 'delta' || made.manifest.digest !== whole.manifest.digest) {
    throw new Error('the delta gives other weights');
  }
  const digests = { [OLD]: first.manifest.digest as string, [NEW]: second.manifest.digest as string };
  return { what: 'publish a delta', source, options, template, before, after: await treeOf(clean), digests };
}
