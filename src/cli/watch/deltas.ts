import { basename } from 'node:path';
import { versionOfStep } from '../../transports/filesystem/layout.js';
import { readManifest } from '../../transports/filesystem/manifest.js';
import { printable } from '../format.js';

/**
 * Tells, once, that there are published deltas among the steps without a marker: no engine can load one, so only the full versions between them are pushed.
 *
 * @param say prints a line
 */
export function deltaTeller(directory: string, say: (text: string) => void) {
  let told = false;
  return async (unmarked: readonly string[]): Promise<void> => {
    if (told || !(await hasDelta(unmarked))) return;
    told = true;
    const place = printable(directory);
    say(
      `${place} has published deltas, which no engine can load: only the full versions between them are pushed. ` +
        `For every version, make them whole here (weightcast follow ${place} --into LOCAL) and watch LOCAL.`,
    );
  };
}

/** Whether the newest of them that was published is a delta. */
async function hasDelta(folders: readonly string[]): Promise<boolean> {
  for (const folder of folders) {
    const version = versionOfStep(basename(folder));
    const options = { version, signal: null };
    const manifest = version === null ? null : await readManifest(folder, options).catch(() => null);
    if (manifest !== null) return manifest.kind === 'delta';
  }
  return false;
}
