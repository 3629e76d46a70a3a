/** What lies in a publication directory, seen without the product's own code where that is to be proved. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../../src/errors.js';
import { openPublished } from '../../src/transports/filesystem/published/open.js';

/** Relative paths of all files and empty folders, and what is in the files: nonces read NONCE, and what differs between two publications of the same is left out. */
export type Tree = Readonly<Record<string, string>>;

export async function treeOf(directory: string): Promise<Tree> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const tree: Record<string, string> = {};
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    const name = normal(path.slice(directory.length + 1));
    if (entry.isDirectory()) {
      // Whether the folder of our own is there says nothing.
      if (!/^\.weightcast(\/leases)?$/.test(name) && (await readdir(path)).length === 0)
        tree[name] = 'an empty folder';
      continue;
    }
    tree[name] = contentOf(name, await readFile(path));
  }
  return Object.fromEntries(Object.entries(tree).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** What does not say who died, and so goes by its age: a file that says whose the others are, cut short, or one that asked for the time. */
export const NAMELESS = 'of nobody knows whom';

function contentOf(name: string, bytes: Buffer): string {
  if (name.endsWith('weightcast-manifest.json')) return 'a manifest';
  if (/^\.weightcast\/(owner|remover)-/.test(name))
    return bytes.toString().endsWith('}\n') ? 'an owner' : NAMELESS;
  if (PROBE.test(name)) return NAMELESS;
  if (LEASE.test(name)) return 'a lease';
  const content = /\.index\.json$|weightcast-delta\.json$/.test(name)
    ? Buffer.from(normal(bytes.toString()))
    : bytes;
  return createHash('sha256').update(content).digest('hex');
}

const PROBE = /^\.weightcast\/(leases\/)?\.weightcast-UUID$/;
const LEASE = /^\.weightcast\/leases\/step_/;

const normal = (text: string): string =>
  text
    .replace(/(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])/g, 'NONCE')
    .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID');

export function without(tree: Tree, isLeftOut: (name: string) => boolean): Tree {
  return Object.fromEntries(Object.entries(tree).filter(([name]) => !isLeftOut(name)));
}

/** Without what readers left that died: it passes. */
export const withoutLeases = (tree: Tree): Tree => without(tree, (name) => LEASE.test(name));

/** Whether both have the same files. */
export const sameTree = (a: Tree, b: Tree): boolean => difference(a, b) === difference(a, a);

export function difference(found: Tree, expected: Tree): string {
  const more = Object.keys(found).filter((name) => !(name in expected));
  const less = Object.keys(expected).filter((name) => !(name in found));
  const other = Object.keys(found).filter((name) => name in expected && found[name] !== expected[name]);
  return JSON.stringify({ more, less, other });
}

/** The files of one version of a tree. */
export const filesOf = (tree: Tree, version: number): Tree =>
  without(tree, (name) => !name.startsWith(`step_${version}/`));

/** The digest of a version that a reader accepts, every byte looked at; null when it refuses. @throws any other error */
export async function acceptedDigest(directory: string, version: number): Promise<string | null> {
  try {
    await using opened = await openPublished(directory, { version, verify: 'all', lease: false });
    return opened.manifest.digest;
  } catch (error) {
    if (hasCode(error, 'WC_VERSION_NOT_FOUND') || hasCode(error, 'WC_MANIFEST_INVALID')) return null;
    throw error;
  }
}
