import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run, tail } from './process.js';
import { buildOnce, peersCache } from './venv.js';

async function checked(command: string, args: readonly string[], cwd?: string): Promise<void> {
  const outcome = await run(command, args, { timeoutMs: 180_000, ...(cwd === undefined ? {} : { cwd }) });
  if (outcome.code !== 0) throw new Error(`${command}: ${tail(outcome.stderr, 3)}`);
}

/**
 * Unpacks a Debian package in the cache, without installing it. Returns the directory that stands for `/`.
 *
 * @throws Error that says what apt or dpkg answered.
 */
export async function debianPackage(name: string): Promise<string> {
  const directory = join(peersCache, `debian-${name}`);
  await buildOnce(directory, async (draft) => {
    const downloads = join(draft, 'downloads');
    await mkdir(downloads, { recursive: true });
    const download = () => checked('apt-get', ['download', '-qq', name], downloads);
    await download().catch(async () => {
      await checked('apt-get', ['update', '-qq']); // a fresh container knows no packages
      await download();
    });
    for (const file of await readdir(downloads)) await checked('dpkg', ['-x', join(downloads, file), draft]);
  });
  return directory;
}
