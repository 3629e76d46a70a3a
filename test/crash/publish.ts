/** A publication that is struck, and what must be true afterwards. */
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import type { WeightcastError } from '../../src/errors.js';
import { publish } from '../../src/transports/filesystem/publish/index.js';
import { sweepLeftovers } from '../../src/transports/filesystem/publish/sweep.js';
import { madeTensor, writeCheckpoint } from '../peers/support/checkpoint.js';
import { Children, type Outcome } from './child.js';
import { NO_FAULT } from './control.js';
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
  withoutLeases,
} from './see.js';

export const COMMIT_MODES = ['rename', 'manifest-last'] as const;
export type CommitMode = (typeof COMMIT_MODES)[number];

export const OLD = 1;
export const NEW = 2;
export const TENSOR_BYTES = 4096;

/** What a directory is like before and after a publication that nobody disturbs. */
export interface Expected {
  readonly what: string;
  readonly source: string;
  /** Of the publication. */
  readonly options: { readonly commit: CommitMode; readonly shardBytes?: number; readonly delta?: boolean };
  /** With version 1 in it. */
  readonly template: string;
  readonly before: Tree;
  readonly after: Tree;
  readonly digests: Readonly<Record<number, string>>;
}

export async function undisturbed(root: string, commit: CommitMode, shards: number): Promise<Expected> {
  const folder = join(root, `expected-${commit}`);
  const source = join(folder, 'source');
  const tensors = Array.from({ length: shards }, (_, i) => {
    return madeTensor(`model.layers.${i}.w`, 'BF16', 'bfloat16', 2, [TENSOR_BYTES / 2]);
  });
  const half = Math.ceil(shards / 2);
  await writeCheckpoint(source, [tensors.slice(0, half), tensors.slice(half)]);
  const old = join(folder, 'old');
  await writeCheckpoint(old, [[madeTensor('old', 'F32', 'float32', 4, [1000])]]);
  const template = join(folder, 'template');
  const first = await publish(old, { directory: template, version: OLD, commit });
  const before = await treeOf(template);
  const clean = join(folder, 'clean');
  await cp(template, clean, { recursive: true });
  const shardBytes = TENSOR_BYTES;
  const second = await publish(source, { directory: clean, version: NEW, commit, shardBytes });
  const digests = { [OLD]: first.manifest.digest as string, [NEW]: second.manifest.digest as string };
  const options = { commit, shardBytes };
  return { what: 'publish', source, options, template, before, after: await treeOf(clean), digests };
}

/** Publishes version 2 beside version 1. */
export function publishScenario(expected: Expected): Scenario {
  const { what, source, options, template } = expected;
  return {
    name: `${what}, ${options.commit}`,
    template,
    // A base is read without a lease where none can be written.
    mayGoOn: options.delta === true,
    task: (directory) => ({
      task: 'publish',
      options: { source, directory, version: NEW, ...options },
    }),
    judge: (directory, outcome) => judge(directory, { expected, outcome, swept: {} }),
  };
}

/** The same where a publisher of that version died before: its leftovers are swept first. */
export async function sweepScenario(root: string, expected: Expected, library: string): Promise<Scenario> {
  const { commit } = expected.options;
  const plain = publishScenario(expected);
  const template = join(root, `expected-${commit}`, 'left');
  await cp(plain.template, template, { recursive: true });
  await using children = new Children(library, root);
  const { calls } = await withDirectory(root, plain.template, (directory) =>
    children.run(directory, NO_FAULT, plain.task(directory)),
  );
  const at = Math.round(0.8 * calls.length);
  const { killed } = await children.run(
    template,
    { ...NO_FAULT, act: 'kill after', at },
    plain.task(template),
  );
  if (!killed) throw new Error('nothing is left over');
  const swept = await treeOf(template);
  return {
    ...plain,
    name: `publish over leftovers, ${commit}`,
    template,
    judge: (directory, outcome) => judge(directory, { expected, outcome, swept }),
  };
}

/** What a reader, an engine's loader and the next publisher find. @returns what is wrong; empty when all is well */
async function judge(
  directory: string,
  { expected, outcome, swept }: Pick<Found, 'expected' | 'swept'> & { readonly outcome: Outcome },
): Promise<string[]> {
  const wrong: string[] = [];
  const all = await treeOf(directory);
  const found = outcome.killed ? withoutLeases(all) : all;
  const whole = sameTree(filesOf(withoutMarks(found), NEW), filesOf(withoutMarks(expected.after), NEW));
  const accepted = await acceptedDigest(directory, NEW);
  if (accepted !== null && !whole) wrong.push('a reader accepts a version that is not whole');
  if (accepted !== null && accepted !== expected.digests[NEW]) wrong.push('a reader sees other weights');
  if ((await acceptedDigest(directory, OLD)) !== expected.digests[OLD]) wrong.push('version 1 is gone');
  if (accepted === null && `step_${NEW}/STABLE` in found) wrong.push('STABLE is there, and no version');
  const shards = Object.keys(filesOf(found, NEW)).filter((name) => name.endsWith('.safetensors'));
  if (expected.options.commit === 'rename' && shards.length > 0 && !whole)
    wrong.push('a loader that globs sees some shards');
  wrong.push(...judgeOutcome(outcome, { accepted, found, expected, swept }));
  wrong.push(...(await judgeNext(directory, expected, accepted)));
  return wrong;
}

interface Found {
  readonly accepted: string | null;
  readonly found: Tree;
  readonly expected: Expected;
  /** What a publisher that died before had left: it is there still, or not. */
  readonly swept: Tree;
}

/** A publisher that lives says what is true, and leaves nothing half. */
function judgeOutcome({ killed, error }: Outcome, { accepted, found, expected, swept }: Found): string[] {
  if (killed) return [];
  if (error === null) {
    return sameTree(found, expected.after)
      ? []
      : [`it says that it published: ${difference(found, expected.after)}`];
  }
  const wrong: string[] = [];
  if (accepted !== null) wrong.push('it failed, and published');
  const left = without(found, (name) => name in swept && !(name in expected.before));
  if (!sameTree(left, expected.before)) wrong.push(`it failed and left ${difference(left, expected.before)}`);
  if (error.name !== 'WeightcastError' || error.code === null)
    wrong.push(`an error of no name: ${error.message}`);
  return wrong;
}

/** The next publisher of the same version publishes it, or finds it published; nothing else is left then. */
async function judgeNext(directory: string, expected: Expected, accepted: string | null): Promise<string[]> {
  const { source, options } = expected;
  const wrong: string[] = [];
  let error: WeightcastError | null = null;
  try {
    await publish(source, { directory, version: NEW, ...options });
  } catch (thrown) {
    error = thrown as WeightcastError;
  }
  if (accepted === null && error !== null) wrong.push(`the next publisher: ${error.code} ${error.message}`);
  if (accepted !== null && error?.code !== 'WC_PUBLISH_EXISTS') {
    wrong.push(`the next publisher of what is published: ${error?.code} ${error?.message}`);
  }
  let left = withoutLeases(await treeOf(directory));
  if (Object.values(left).includes(NAMELESS)) {
    // Left for an hour.
    await age(directory);
    await sweepLeftovers(directory);
    left = withoutLeases(await treeOf(directory));
  }
  if (!sameTree(left, expected.after))
    wrong.push(`after the next publisher: ${difference(left, expected.after)}`);
  if ((await acceptedDigest(directory, NEW)) !== expected.digests[NEW])
    wrong.push('version 2 is not accepted');
  return wrong;
}

/** What comes after the version is one: its marker, and that a file of its publisher goes. */
const withoutMarks = (tree: Tree): Tree =>
  without(tree, (name) => /\/(STABLE|weightcast-owner-NONCE\.json)$/.test(name));
