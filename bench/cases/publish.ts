/**
 * A sharded checkpoint from the page cache into a directory of versions: publish() beside a plain C program, plain Node and the reference
 * library, with and without fsync. In every round each of them writes once; of each the first writing is read back and compared.
 */
import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { tryPython } from '../../test/peers/support/venv.js';
import type { BenchCase, CaseContext, Figure, Reference } from '../case.js';
import { checkpointOf } from '../harness/checkpoint.js';
import { compile } from '../harness/compile.js';
import { opensslSha256 } from '../harness/openssl.js';
import { settled } from '../harness/settled.js';
import { interleave, median, spread } from '../harness/statistics.js';
import {
  type Order,
  referencePackages,
  type Writing,
  withPlainC,
  withPlainNode,
  withPublish,
  withReference,
} from './publish/contestants.js';
import { digestsOf, shardsOf } from './publish/same-bytes.js';

const GIB = 2 ** 30;
/** As the checkpoint of the bench is cut. */
const SHARD_BYTES = (5 * GIB) / 2;
/** A round takes a minute where nothing else runs. */
const ROUNDS_MS = 300_000;
const GOAL_OF_PLAIN = 0.9;
const GOAL_OF_NODE = 2.4;
const GOAL_OF_LIMIT = 0.9;

type Write = (order: Order) => Promise<Writing>;

export const publishing: BenchCase = {
  name: 'publish',
  about:
    'A sharded checkpoint (in the page cache) published as a version, against a plain C program that does pread and pwrite on all cores, Node streams, and safetensors.numpy.save_file of tensors in memory; bytes of tensors a second.',
  timeoutMs: 580_000,
  async run(context) {
    const { quick, signal } = context;
    const checkpoint = await checkpointOf(context, quick ? 0.5 : 4);
    const source = checkpoint.path ?? '';
    const shards = await shardsOf(source);
    const byteLength = checkpoint.tensors.reduce((sum, { range }) => sum + range.byteLength, 0);
    const expected = await digestsOf(source); // into the page cache, too

    const writers: Record<string, Write> = {
      publish: withPublish(source, SHARD_BYTES, true),
      'publish without digests': withPublish(source, SHARD_BYTES, false),
      'plain C': withPlainC(await compile('plain_writer', context.scratch), shards),
      'Node streams': withPlainNode(shards),
    };
    const { environment, why } = await tryPython(referencePackages);
    if (environment === null) context.log(`the reference library can't be had: ${why}`);
    else writers['save_file'] = withReference(environment, shards, context.version);

    const contestants: Record<string, () => Promise<Writing>> = {};
    for (const [name, write] of Object.entries(writers)) {
      for (const sync of [false, true]) {
        const label = sync ? `${name}, fsync` : name;
        contestants[label] = () => measured(context, { label, write, sync, byteLength, expected });
      }
    }
    const writings = await interleave(contestants, quick ? 1 : 3, ROUNDS_MS);
    const sha256 = await opensslSha256({ processes: 1, seconds: quick ? 1 : 2, signal });
    return [false, true].flatMap((sync) => figures(writings, { sync, byteLength, sha256 }));
  },
};

const compared = new Set<string>();

async function measured(
  context: CaseContext,
  options: {
    readonly label: string;
    readonly write: Write;
    readonly sync: boolean;
    readonly byteLength: number;
    readonly expected: string;
  },
): Promise<Writing> {
  const { label, write, sync, byteLength, expected } = options;
  const into = join(context.scratch, `published-${process.pid}`);
  await mkdir(into);
  try {
    await settled();
    const writing = await write({ into, sync, signal: context.signal });
    context.log(`${label}: ${(byteLength / writing.seconds / 1e9).toFixed(2)} GB/s`);
    if (!compared.has(label) && (await digestsOf(writing.folder)) !== expected)
      throw new Error(`${label} wrote other bytes than those of the checkpoint`);
    compared.add(label);
    return writing;
  } finally {
    await rm(into, { recursive: true });
  }
}

function figures(
  writings: Readonly<Record<string, readonly Writing[]>>,
  {
    sync,
    byteLength,
    sha256,
  }: { readonly sync: boolean; readonly byteLength: number; readonly sha256: number },
): Figure[] {
  const of = (name: string): readonly Writing[] => writings[sync ? `${name}, fsync` : name] ?? [];
  const rates = (name: string): number[] => of(name).map(({ seconds }) => byteLength / seconds / 1e9);
  const how = sync ? 'with fsync' : 'without fsync';
  const peer = (name: string): Reference => ({ name: `${name}, ${how}`, value: median(rates(name)) });
  const plain = peer('plain C');
  const ours = (name: string, label: string) => ({
    name: `${label}, ${how}`,
    unit: 'GB/s',
    ours: median(rates(name)),
    spread: spread(rates(name)),
  });
  const bare = ours('publish without digests', 'published without digests');
  const proved = ours('publish', 'published with SHA-256 of every tensor');

  // Hashing needs CPU time that the plain program leaves: who does both can't be faster than the disk, nor than all cores.
  const cpu = median(of('plain C').map(({ cpu = 0 }) => cpu)) + byteLength / sha256;
  const hashed: Reference = {
    name: 'the slower of the plain C program and the cores that copy as it does and hash as openssl speed does',
    value: Math.min(plain.value, byteLength / (cpu / availableParallelism()) / 1e9),
  };
  const node = peer('Node streams');
  const found: Figure[] = [
    {
      ...bare,
      limit: plain,
      peer: node,
      goal: {
        text: `≥ ${GOAL_OF_PLAIN * 100} % of plain C, ≥ ${GOAL_OF_NODE} × Node`,
        met: bare.ours >= GOAL_OF_PLAIN * plain.value && bare.ours >= GOAL_OF_NODE * node.value,
      },
    },
    {
      ...proved,
      limit: hashed,
      peer: node,
      goal: {
        text: `≥ ${GOAL_OF_LIMIT * 100} % of the limit`,
        met: proved.ours >= GOAL_OF_LIMIT * hashed.value,
      },
    },
  ];
  if (of('save_file').length === 0) return found;
  const reference = peer('save_file');
  const faster = { text: 'faster than it', met: proved.ours > reference.value };
  return [
    ...found,
    { ...proved, name: `${proved.name}, beside the reference`, peer: reference, goal: faster },
  ];
}
