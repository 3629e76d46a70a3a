/** Looks at a directory again and again, and reads only the manifests that are new. */
import { join } from 'node:path';
import { MANIFEST_NAME, stepFolder } from '../layout.js';
import { modifiedMs } from '../prime-rl/layout.js';
import { type PublishedEntry, publishedEntry, versionsIn } from '../published/list.js';

export function glances(
  directory: string,
): (signal: AbortSignal | null) => Promise<readonly PublishedEntry[]> {
  let known = new Map<number, PublishedEntry>();
  return async (signal) => {
    const now = new Map<number, PublishedEntry>();
    for (const version of await versionsIn(directory)) {
      const path = stepFolder(directory, version);
      const before = known.get(version);
      const same =
        before !== undefined && (await modifiedMs(join(path, MANIFEST_NAME))) === before.publishedMs;
      const entry = same ? before : await publishedEntry(path, version, signal);
      if (entry !== null) now.set(version, entry);
    }
    known = now;
    return [...now.values()];
  };
}
