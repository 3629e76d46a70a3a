/** Encoding and verified applying of one delta. */
import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { CaseContext, Figure } from '../../case.js';
import { compile } from '../../harness/compile.js';
import { memoryAtHand, settled } from '../../harness/settled.js';
import { interleave, median, spread } from '../../harness/statistics.js';
import { withPlainC } from '../publish/contestants.js';
import { entropyPercent } from './entropy.js';
import { apply, digestsOf, encode, timed } from './ours.js';
import type { Peer, Ran } from './peers.js';
import type { Kind, Versions } from './versions.js';

const ENCODE_GOAL = 1.5;
const APPLY_GOAL = 2.5;
const ROUNDS_MS = 40_000;

export interface Share {
  readonly kind: Kind;
  readonly fraction: number;
  /** Percent of the model's bytes. */
  readonly goal?: number;
}

interface Measured {
  readonly versions: Versions;
  readonly share: Share;
  readonly folder: string;
  readonly peer: Peer;
}

const labelOf = ({ kind, fraction }: Share): string =>
  `${fraction * 100} % changed, ${kind === 'ulp' ? 'by a few ulp' : 'to any value'}`;

export async function codecFigures(context: CaseContext, measured: Measured): Promise<Figure[]> {
  const { versions, share } = measured;
  const label = labelOf(share);
  const byteLength = versions.next.byteLength;
  const rounds = await roundsOf(context, measured);
  const rates = (of: readonly { readonly seconds: number }[]) =>
    of.map(({ seconds }) => byteLength / seconds / 1e9);
  const percent = (bytes = Number.NaN) => (100 * bytes) / byteLength;
  const ours = percent(rounds.encode[0]?.result.byteLength);
  const { kind, fraction, goal } = share;
  const bytes = {
    ...{ unit: '% of the model', ours },
    goal: goal === undefined ? { text: '', met: null } : { text: `≤ ${goal} %`, met: ours <= goal },
  };
  const encoding = {
    ...{ unit: 'GB/s', ours: median(rates(rounds.encode)), spread: spread(rates(rounds.encode)) },
    limit: { name: 'C that reads and compares both', value: median(rates(rounds.read)) },
  };
  const fast = { text: `≥ ${ENCODE_GOAL}`, met: encoding.ours >= ENCODE_GOAL };
  const xor = 'XOR + zstd -1 in C';
  const listed = 'int32 index + value in C';
  return [
    {
      ...{ ...bytes, name: `${label}: bytes` },
      limit: { name: 'entropy', value: entropyPercent(kind, fraction) },
      peer: { name: xor, value: percent(rounds.xor[0]?.bytes) },
    },
    {
      ...{ ...bytes, name: `${label}: bytes, beside a list` },
      peer: { name: listed, value: percent(rounds.listed[0]?.bytes) },
    },
    {
      ...{ ...encoding, name: `${label}: encoded`, goal: fast },
      peer: { name: xor, value: median(rates(rounds.xor)) },
    },
    {
      ...{ ...encoding, name: `${label}: encoded, beside a list`, goal: fast },
      peer: { name: listed, value: median(rates(rounds.listed)) },
    },
    ...applyFigures(label, byteLength, rounds),
  ];
}

type Rounds = Awaited<ReturnType<typeof roundsOf>>;

function applyFigures(label: string, byteLength: number, rounds: Rounds): Figure[] {
  const rates = (of: readonly { readonly seconds: number }[]) =>
    of.map(({ seconds }) => byteLength / seconds / 1e9);
  const cores = availableParallelism();
  const copied = median(rates(rounds.copied));
  // Who copies and hashes on the same cores can't be faster than both after each other on all of them.
  const cpu =
    median(rounds.copied.map(({ cpu = Number.NaN }) => cpu)) +
    cores * median(rounds.hashed.map(({ seconds }) => seconds));
  const both = Math.min(copied, (byteLength * cores) / cpu / 1e9);
  const ours = median(rates(rounds.applied));
  const applied = { unit: 'GB/s', ours, spread: spread(rates(rounds.applied)) };
  return [
    {
      ...{ ...applied, name: `${label}: applied and verified` },
      limit: { name: 'plain C that only copies the base, with our SHA-256 on the same cores', value: both },
      peer: { name: 'XOR + zstd -1 in C, hashed by OpenSSL', value: median(rates(rounds.unxored)) },
      goal: { text: `≥ ${APPLY_GOAL}`, met: ours >= APPLY_GOAL },
      note: `plain C copies the base at ${copied.toFixed(2)} GB/s.`,
    },
    {
      ...{ ...applied, name: `${label}: applied and verified, beside SHA-256` },
      limit: { name: `our SHA-256 alone, ${cores} cores`, value: median(rates(rounds.hashed)) },
      goal: { text: '', met: null },
    },
  ];
}

async function roundsOf(context: CaseContext, { versions, folder, peer }: Measured) {
  const { quick, log, scratch, signal } = context;
  const deltaPath = join(folder, 'delta');
  const [xorPath, listPath] = [join(folder, 'xor'), join(folder, 'list')];
  const pairs = versions.files.flat();
  const plainWriter = withPlainC(
    await compile('plain_writer', scratch),
    versions.files.map(([base]) => base),
  );
  const expected = Buffer.from(await digestsOf(versions.next));
  const same = async (targets: readonly string[]) => {
    const compared = versions.files.flatMap(([, next], i) => [next, targets[i] as string]);
    if ((await peer('read', compared)).found !== 0) throw new Error('what came out is not the new version');
  };
  const one = async <T extends { readonly seconds: number }>(
    name: string,
    work: () => Promise<T>,
    written = 0,
  ): Promise<T> => {
    await settled();
    await memoryAtHand(written);
    const done = await work();
    log(`${name}: ${(versions.next.byteLength / done.seconds / 1e9).toFixed(2)} GB/s`);
    return done;
  };
  const writing: typeof one = (name, work) => one(name, work, versions.next.byteLength);
  return interleave(
    {
      encode: () => one('encode', () => encode(versions, deltaPath)),
      read: () => one('read both', () => peer('read', pairs)),
      xor: () => one('XOR + zstd', () => peer('xor', [xorPath, ...pairs])),
      listed: () =>
        one('index + value', async (): Promise<Ran> => {
          const ran = await peer('pairs', [listPath, ...pairs]);
          if (ran.found !== versions.changed) throw new Error('the list has another number of elements');
          return ran;
        }),
      applied: () =>
        writing('apply', async () => {
          const applied = await apply(versions, deltaPath, folder, same);
          if (!expected.equals(applied.result))
            throw new Error('the digests are not those of the new version');
          return applied;
        }),
      unxored: () =>
        writing('apply XOR', async () => {
          const targets = versions.files.map((_, i) => join(folder, `unxored-${i}`));
          const paths = versions.files.flatMap(([base], i) => [base, targets[i] as string]);
          const ran = await peer('unxor', [xorPath, ...paths]);
          await same(targets);
          await Promise.all(targets.map((path) => rm(path)));
          return ran;
        }),
      copied: () =>
        writing('plain copy', async () => {
          const ran = await plainWriter({ into: folder, sync: false, signal });
          await Promise.all(
            versions.files.map(([base]) => rm(join(folder, base.slice(base.lastIndexOf('/') + 1)))),
          );
          return ran;
        }),
      hashed: () => one('SHA-256', () => timed(() => digestsOf(versions.next))),
    },
    quick ? 1 : 3,
    ROUNDS_MS,
  );
}
