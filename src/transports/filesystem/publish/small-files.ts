/** The small files of a version, as they are written and as its manifest lists them. */
import type { ManifestFile } from '../manifest.js';
import { sha256Of } from './companions.js';
import type { Draft } from './draft.js';

export interface SmallFiles {
  /** Those that were written. */
  readonly files: ManifestFile[];
  /** @throws what {@link Draft.write} throws; the signal's reason */
  write(name: string, bytes: Buffer): Promise<void>;
}

export function smallFiles(draft: Draft, signal: AbortSignal | null): SmallFiles {
  const files: ManifestFile[] = [];
  return {
    files,
    write: async (name, bytes) => {
      signal?.throwIfAborted();
      await draft.write(name, bytes);
      files.push({ name, byteLength: bytes.length, sha256: sha256Of(bytes) });
    },
  };
}
