/** A prune that is struck: it removes a delta and the version that it is a delta of. */
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { leaseFolder, leaseName } from '../../src/transports/filesystem/lease/place.js';
import { publish } from '../../src/transports/filesystem/publish/index.js';
import { prune } from '../../src/transports/filesystem/retention/index.js';
import { Children, type Outcome } from './child.js';
import { NO_FAULT } from './control.js';
import type { CommitMode } from './publish.js';
import { age, type Scenario, withDirectory } from './scenario.js';
import {
  acceptedDigest,
  difference,
  filesOf,
  NAMELESS,
  sameTree,
  type Tree,
  treeOf,
  without,
} from './see.js';
import { writeVersion } from './weights.js';

const FULL = 1;
const DELTA = 2;
const REMOVED = [FULL, DELTA];
const KEPT = [3, 4];
const POLICY = { keep: KEPT.length, graceMs: 0 };
const LATER = 5;
const READER = 'feedfeedfeedfeed';

interface Expected {
  readonly commit: CommitMode;
  readonly template: string;
  readonly before: Tree;
  readonly after: Tree;
  readonly digests: ReadonlyMap<number, string>;
  /** With what a prune that died before had left, some of which passes with time only; null: nothing is left over. */
  readonly dead: Tree | null;
  /** To publish one more. */
  readonly source: string;
}

/** Also the same where a prune died in the middle before. */
export async function pruneScenarios(
  root: string,
  commit: CommitMode,
  { library, tensors }: { readonly library: string; readonly tensors: number },
): Promise<Scenario[]> {
  const expected = await undisturbed(root, commit, tensors);
  const scenario: Scenario = {
    name: `prune, ${commit}`,
    template: expected.template,
    mayGoOn: true,
    task: (directory) => ({ task: 'prune', options: { directory, ...POLICY } }),
    judge: (directory, outcome) => judge(directory, expected, outcome),
  };
  const template = join(root, `expected-prune-${commit}`, 'left');
  await cp(expected.template, template, { recursive: true, preserveTimestamps: true });
  await using children = new Children(library, root);
  const { calls } = await withDirectory(root, scenario.template, (directory) =>
    children.run(directory, NO_FAULT, scenario.task(directory)),
  );
  const fault = { ...NO_FAULT, act: 'kill after', at: Math.round(0.4 * calls.length) } as const;
  if (!(await children.run(template, fault, scenario.task(template))).killed)
    throw new Error('nothing is left');
  const dead = await treeOf(template);
  const over: Scenario = {
    ...scenario,
    ...{ name: `prune over leftovers, ${commit}`, template },
    judge: (directory, outcome) => judge(directory, { ...expected, dead }, outcome),
  };
  return [scenario, over];
}

async function undisturbed(root: string, commit: CommitMode, tensors: number): Promise<Expected> {
  const folder = join(root, `expected-prune-${commit}`);
  const template = join(folder, 'template');
  const digests = new Map<number, string>();
  let source = '';
  for (const version of [...REMOVED, ...KEPT]) {
    source = await writeVersion(folder, version, tensors);
    const options = { directory: template, version, commit, delta: version === DELTA };
    const { manifest } = await publish(source, options);
    digests.set(version, manifest.digest as string);
  }
  const clean = join(folder, 'clean');
  await cp(template, clean, { recursive: true, preserveTimestamps: true });
  await prune(clean, POLICY);
  const [before, after] = [await treeOf(template), await treeOf(clean)];
  return { commit, template, before, after, dead: null, digests, source };
}

/** @returns what is wrong; empty when all is well */
async function judge(directory: string, expected: Expected, { killed, error }: Outcome): Promise<string[]> {
  const { commit, after, digests } = expected;
  const wrong: string[] = [];
  const found = await treeOf(directory);
  const there = new Set<number>();
  for (const version of [...REMOVED, ...KEPT]) {
    const digest = await acceptedDigest(directory, version);
    if (digest !== null) there.add(version);
    if (digest !== null && digest !== digests.get(version)) wrong.push(`step_${version} has other weights`);
    const isSeen = Object.keys(filesOf(found, version)).length > 0;
    if (commit === 'rename' && isSeen && digest === null)
      wrong.push(`step_${version} is seen, and is no version`);
  }
  for (const version of KEPT) if (!there.has(version)) wrong.push(`step_${version} is gone`);
  if (there.has(DELTA) && !there.has(FULL)) wrong.push('what a delta that is there is made of is gone');
  if (!killed) wrong.push(...judgeOutcome(found, { expected, there, failed: error !== null }));
  wrong.push(...(await judgeReaders(directory, expected, undecided(found, there))));
  return [...wrong, ...(await judgeNext(directory, after))];
}

interface Ended {
  readonly expected: Expected;
  readonly there: ReadonlySet<number>;
  readonly failed: boolean;
}

/** A prune that lives leaves each version as it was, or nothing of it. */
function judgeOutcome(found: Tree, { expected, there, failed }: Ended): string[] {
  const { before, after, dead } = expected;
  const isGone = (name: string) =>
    REMOVED.some((version) => name.startsWith(`step_${version}/`) && !there.has(version));
  const wanted = failed ? without(before, isGone) : after;
  // What was left over stays when it fails, or as long as it does not say who died.
  const mine = without(found, (name) => dead?.[name] !== undefined && (failed || dead[name] === NAMELESS));
  const left = failed && dead !== null ? without(wanted, (name) => name in dead) : wanted;
  if (sameTree(mine, left)) return [];
  return [`${failed ? 'it failed and left' : 'it says that it pruned:'} ${difference(mine, left)}`];
}

/** Versions that are there, or that the struck process had not decided about when it died: a reader may have come before that. */
function undecided(found: Tree, there: ReadonlySet<number>): readonly number[] {
  return REMOVED.filter((version) => {
    const aside = [
      `trash-NONCE-step_${version}/weightcast-manifest.json`,
      `manifest-NONCE-step_${version}.json`,
    ];
    return there.has(version) || aside.some((name) => `.weightcast/${name}` in found);
  });
}

/** With leases on them, the next publisher and the next prune leave or make them whole. */
async function judgeReaders(
  directory: string,
  { source, commit, digests }: Expected,
  versions: readonly number[],
): Promise<string[]> {
  const wrong: string[] = [];
  const read = `${directory}-read`;
  await cp(directory, read, { recursive: true, preserveTimestamps: true });
  try {
    await mkdir(leaseFolder(read), { recursive: true });
    for (const version of versions)
      await writeFile(join(leaseFolder(read), leaseName(version, READER)), '{}');
    await publish(source, { directory: read, version: LATER, commit });
    await prune(read, POLICY);
    for (const version of versions) {
      const digest = await acceptedDigest(read, version);
      if (digest !== digests.get(version)) wrong.push(`step_${version} is gone under its reader`);
    }
  } finally {
    await rm(read, { recursive: true, force: true });
  }
  return wrong;
}

/** The next prune leaves what one that was never disturbed leaves. */
async function judgeNext(directory: string, after: Tree): Promise<string[]> {
  const wrong: string[] = [];
  const { failed } = await prune(directory, POLICY);
  for (const { reason } of failed) wrong.push(`the next prune: ${reason}`);
  let left = await treeOf(directory);
  if (Object.values(left).includes(NAMELESS)) {
    await age(directory);
    await prune(directory, POLICY);
    left = await treeOf(directory);
  }
  if (!sameTree(left, after)) wrong.push(`after the next prune: ${difference(left, after)}`);
  return wrong;
}
