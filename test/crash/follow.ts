/** A follower that is struck while it makes a full version and two deltas whole in a local directory. */
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { followPublished } from '../../src/transports/filesystem/follow/index.js';
import { publish } from '../../src/transports/filesystem/publish/index.js';
import { prune } from '../../src/transports/filesystem/retention/index.js';
import type { Outcome } from './child.js';
import { age, type Scenario } from './scenario.js';
import { acceptedDigest, difference, filesOf, sameTree, type Tree, treeOf, without } from './see.js';
import { TENSOR_BYTES, writeVersion } from './weights.js';

const FIRST = 1;
/** The last version that the struck follower makes, and the one that the next one finds besides. */
const LAST = 3;
const NEXT = 4;
const FROZEN = 2;
const VERSIONS = [FIRST, 2, LAST, NEXT];
const KEEP = { keep: 2, graceMs: 0 };
const LIMIT_MS = 60_000;

interface Expected {
  /** Published: to the struck follower, and to the next one. */
  readonly shared: string;
  readonly more: string;
  /** Of each version, as it is held. */
  readonly held: ReadonlyMap<number, Tree>;
  readonly digests: ReadonlyMap<number, string>;
  /** After each of the two. */
  readonly after: Tree;
  readonly afterNext: Tree;
}

export async function followScenario(root: string, tensors: number): Promise<Scenario> {
  const folder = join(root, 'expected-follow');
  const template = join(folder, 'template');
  await mkdir(template, { recursive: true });
  const expected = await undisturbed(folder, tensors);
  return {
    name: 'follow a full version and two deltas',
    template,
    // Its local lease and the pruning of what is old: right, or an error.
    mayGoOn: true,
    task: (directory) => ({
      task: 'follow',
      options: { shared: expected.shared, into: directory, maxVersions: LAST, ...KEEP },
    }),
    judge: (directory, outcome) => judge(directory, expected, outcome),
  };
}

async function undisturbed(folder: string, tensors: number): Promise<Expected> {
  const shared = join(folder, 'shared');
  const more = join(folder, 'more');
  const digests = new Map<number, string>();
  let before: string | undefined;
  for (const version of VERSIONS) {
    const directory = version === NEXT ? more : shared;
    if (version === NEXT) await cp(shared, more, { recursive: true });
    const source = await writeVersion(folder, version, tensors, FROZEN);
    // A shard a tensor: those that never change are not written again.
    const options = { delta: true, deltaBase: before, shardBytes: TENSOR_BYTES };
    const { manifest } = await publish(source, { directory, version, ...options });
    if ((manifest.kind === 'full') !== (version === FIRST))
      throw new Error(`step_${version} is ${manifest.kind}`);
    digests.set(version, manifest.digest as string);
    before = source;
  }
  const into = join(folder, 'clean');
  const held = new Map<number, Tree>();
  const follow = async (directory: string, maxVersions: number) => {
    const onVersion = async ({ version }: { version: number }) =>
      void held.set(version, filesOf(await treeOf(into), version));
    const signal = AbortSignal.timeout(LIMIT_MS);
    await followPublished(directory, { into, maxVersions, pollMs: 5, signal, onVersion, ...KEEP });
    return treeOf(into);
  };
  const after = await follow(shared, LAST);
  return { shared, more, held, digests, after, afterNext: await follow(more, 1) };
}

/** @returns what is wrong; empty when all is well */
async function judge(directory: string, expected: Expected, { killed, error }: Outcome): Promise<string[]> {
  const wrong: string[] = [];
  const found = await treeOf(directory);
  let newest = 0;
  for (const version of VERSIONS) {
    const files = filesOf(found, version);
    const isSeen = Object.keys(files).length > 0;
    const whole = sameTree(withoutMarker(files), withoutMarker(expected.held.get(version) ?? {}));
    if (isSeen && !whole) wrong.push(`step_${version} is seen, and is not whole`);
    const digest = await acceptedDigest(directory, version);
    if (isSeen && digest !== expected.digests.get(version)) wrong.push(`step_${version} is ${digest}`);
    if (isSeen) newest = version;
  }
  // An old version that could not be removed stays, whole as judged above, and goes the next time.
  const kept = without(found, (name) => /^step_\d/.test(name) && !(name in expected.after));
  if (!killed && error === null && !sameTree(kept, expected.after)) {
    wrong.push(`it says that it followed: ${difference(found, expected.after)}`);
  }
  const own = Object.keys(found).filter((name) => name.startsWith('.weightcast'));
  if (!killed && error !== null && own.length > 0) wrong.push(`it failed and left ${own}`);
  return [...wrong, ...(await judgeNext(directory, expected, newest))];
}

/** The next follower makes each version that is not held yet, once, and leaves what one that was never disturbed leaves. */
async function judgeNext(directory: string, expected: Expected, newest: number): Promise<string[]> {
  const wrong: string[] = [];
  const made: number[] = [];
  const left = VERSIONS.filter((version) => version > newest);
  try {
    await followPublished(expected.more, {
      ...{ into: directory, maxVersions: left.length, pollMs: 5, ...KEEP },
      signal: AbortSignal.timeout(LIMIT_MS),
      onVersion: ({ version }) => void made.push(version),
      onRefused: (version, { message }) =>
        void wrong.push(`the next follower refuses ${version}: ${message}`),
    });
  } catch (error) {
    wrong.push(`the next follower: ${(error as Error).message}`);
  }
  if (made.join() !== left.join()) wrong.push(`the next follower made ${made}, not ${left}`);
  // What says nothing of who died, and leases of readers that died, pass with time.
  await age(directory);
  await prune(directory, KEEP);
  const found = await treeOf(directory);
  if (!sameTree(found, expected.afterNext)) {
    wrong.push(`after the next follower: ${difference(found, expected.afterNext)}`);
  }
  for (const version of [LAST, NEXT]) {
    if ((await acceptedDigest(directory, version)) !== expected.digests.get(version)) {
      wrong.push(`step_${version} is not accepted`);
    }
  }
  return wrong;
}

/** The last thing that a version gets; it is one without. */
const withoutMarker = (files: Tree): Tree => without(files, (name) => name.endsWith('/STABLE'));
