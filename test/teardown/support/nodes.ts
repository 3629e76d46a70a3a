import { homedir } from 'node:os';
import { join } from 'node:path';
import { run, tail } from '../../peers/support/process.js';
import { buildOnce } from '../../peers/support/venv.js';

/** The Node that runs the tests is one; the others come from npm, which carries the official binaries. */
export const otherNodes = ['22.23.3', '24.21.0'] as const;

const cache = process.env['WEIGHTCAST_NODE_CACHE'] ?? join(homedir(), '.cache/weightcast/node');
const INSTALL_TIMEOUT_MS = 300_000;

/** Path of that Node, from the cache outside the repository, which may be empty. @throws Error that says what npm answered. */
export async function fetchNode(version: (typeof otherNodes)[number]): Promise<string> {
  const name = `node-linux-${process.arch}`;
  const directory = join(cache, `${name}-${version}`);
  await buildOnce(directory, async (draft) => {
    const flags = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund'];
    const outcome = await run('npm', ['install', '--prefix', draft, ...flags, `${name}@${version}`], {
      timeoutMs: INSTALL_TIMEOUT_MS,
    });
    if (outcome.code !== 0)
      throw new Error(`npm can't install ${name}@${version}: ${tail(outcome.stderr, 4)}`);
  });
  const path = join(directory, 'node_modules', name, 'bin/node');
  const { stdout } = await run(path, ['--version']);
  if (stdout.trim() !== `v${version}`)
    throw new Error(`${path} says that it is ${stdout.trim() || 'nothing'}`);
  return path;
}
