/** A version that is being written, and how it becomes one. */
import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { packageVersion } from '../../../version.js';
import { newNonce, OWN_FOLDER, ownerName, stepFolder } from '../layout.js';
import type { Manifest } from '../manifest.js';
import { makeFolder, writeNew, writing } from './durable.js';
import { existsError, isPublished } from './exists.js';
import { openManifestLast } from './manifest-last.js';
import { encodeOwner, GRACE_MS, newOwner, type Owner } from './owner.js';
import { openRename } from './rename.js';
import { sweepLeftovers } from './sweep.js';

/**
 * How a version appears. `rename`: whole, by one rename of its folder. `manifest-last`: for mounts without rename or overwrite (object stores), file by file
 * under names of its own, and its manifest last.
 */
export type CommitMode = 'rename' | 'manifest-last';

export interface DraftOptions {
  readonly directory: string;
  readonly version: number;
  readonly mode: CommitMode;
  /** Whether everything must be on the disk before the version appears. */
  readonly sync: boolean;
  /** Milliseconds, default an hour; see {@link GRACE_MS}. */
  readonly graceMs?: number | undefined;
}

/** Made by {@link openDraft}. Disposing of one that was not committed removes it. */
export interface Draft extends AsyncDisposable {
  readonly publisher: Manifest['publisher'];
  /** To put into names of files, so that no two publications have one in common; null where they have a folder each. */
  readonly nameNonce: string | null;
  /** Leftovers that were swept first: paths. */
  readonly swept: readonly string[];
  /**
   * Writes a small file. The first one decides, where two publishers write into one folder, and must have the same name in both.
   * @throws WeightcastError WC_PUBLISH_BUSY, WC_FILE_WRITE
   */
  write(name: string, bytes: Uint8Array): Promise<void>;
  /** Where somebody else writes a file: to be created exclusively, after the first of {@link write}. */
  path(name: string): string;
  /**
   * Makes it a version: manifest, then the marker that engines' orchestrators wait for (a delta has none). When this throws, there is no version.
   * @returns its folder
   * @throws WeightcastError WC_PUBLISH_EXISTS, WC_FILE_WRITE
   */
  commit(manifest: Manifest): Promise<string>;
}

/** What both ways need. */
export interface DraftPlace extends DraftOptions {
  readonly owner: Owner;
  readonly publisher: Manifest['publisher'];
  readonly swept: readonly string[];
  readonly graceMs: number;
}

/**
 * Begins to write a version: sweeps what dead publishers left, and says who writes.
 *
 * @throws WeightcastError WC_PUBLISH_EXISTS, WC_PUBLISH_BUSY, WC_FILE_WRITE
 */
export async function openDraft(options: DraftOptions): Promise<Draft> {
  const { version, mode, sync, graceMs = GRACE_MS } = options;
  const directory = resolve(options.directory);
  const own = join(directory, OWN_FOLDER);
  await writing(own, makeFolder(own, sync));
  const swept = await writing(directory, sweepLeftovers(directory, { graceMs }));
  const step = stepFolder(directory, version);
  if (await isPublished(step)) throw await existsError(step);
  const nonce = newNonce();
  const owner = await newOwner(nonce, version);
  const publisher = { nonce, host: hostname() || 'unknown', pid: process.pid, weightcast: packageVersion() };
  const ownerPath = join(own, ownerName(nonce));
  try {
    await writing(ownerPath, writeNew(ownerPath, encodeOwner(owner), false));
    const place: DraftPlace = { ...options, directory, graceMs, owner, publisher, swept };
    return withOwner(await (mode === 'rename' ? openRename(place) : openManifestLast(place)), ownerPath);
  } catch (error) {
    await rm(ownerPath, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** The owner's file goes last: while it is there, others know whose what they find is. */
function withOwner(draft: Draft, ownerPath: string): Draft {
  return {
    publisher: draft.publisher,
    nameNonce: draft.nameNonce,
    swept: draft.swept,
    write: (name, bytes) => draft.write(name, bytes),
    path: (name) => draft.path(name),
    commit: (manifest) => draft.commit(manifest),
    async [Symbol.asyncDispose]() {
      await draft[Symbol.asyncDispose]();
      await rm(ownerPath, { force: true }).catch(() => undefined);
    },
  };
}
