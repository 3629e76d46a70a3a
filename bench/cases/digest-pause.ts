/** What our own digests cost: whole pushes with and without them, to a reference engine that hashes as a real one does. */
import { connectFleet, type UpdateReport, type VerifyMode } from '#weightcast/index.js';
import { native } from '#weightcast/native.js';
import { simulateFleet } from '#weightcast/testing/index.js';
import type { Checkpoint } from '#weightcast/weights/checkpoint.js';
import { candidatesFor, toHashJob } from '#weightcast/weights/proof.js';
import type { BenchCase, Figure } from '../case.js';
import { checkpointOf } from '../harness/checkpoint.js';
import { interleave, median, spread } from '../harness/statistics.js';

const GOAL_PERCENT = 2;
const ROUNDS_MS = 90_000;

interface Pushed {
  readonly totalMs: number;
  /** The pause without the time in which the engine hashed its own copy. */
  readonly pauseMs: number;
  readonly engineHashMs: number;
}

function pushed(report: UpdateReport, totalMs: number): Pushed {
  const engineHashMs = Math.max(...report.engines.map(({ proof }) => proof?.engineMs ?? 0));
  return { totalMs, pauseMs: (report.pauseMs ?? Number.NaN) - engineHashMs, engineHashMs };
}

export const digestPause: BenchCase = {
  name: 'digest-pause',
  about:
    "Whole pushes of a 0.5 GiB checkpoint to a reference engine, with --verify none and with --verify digest in turn. Our digests are taken before the pause; the engine's own hashing, which the report tells apart, is not counted. What tells the update from the machine is a third push: with none, just after the bench itself has hashed the same bytes.",
  async run(context): Promise<readonly Figure[]> {
    const { quick, signal } = context;
    const checkpoint = await checkpointOf(context, 0.5);
    const { path } = checkpoint;
    if (path === null) throw new Error('the checkpoint is a directory');
    await using engines = await simulateFleet({ model: path, workers: 1, startTimeoutMs: 120_000 });
    await using fleet = await connectFleet({
      engines: engines.addresses,
      emulate: true,
      packedBufferBytes: 64 * 2 ** 20,
    });
    const push = (verify: VerifyMode) => async (): Promise<Pushed> => {
      const began = performance.now();
      const report = await fleet.update(path, { verify, signal });
      return pushed(report, performance.now() - began);
    };
    const hashing = async (): Promise<Pushed> => {
      await hash(checkpoint);
      return push('none')();
    };
    await push('digest')(); // the rendezvous, the first list
    const pushes = await interleave(
      { none: push('none'), digest: push('digest'), hashing },
      quick ? 2 : 15,
      ROUNDS_MS,
    );
    return figures(pushes);
  },
};

/** Every tensor once, on all cores, as an update does before its pause. */
async function hash(checkpoint: Checkpoint): Promise<void> {
  const { candidates } = candidatesFor(checkpoint.tensors, 1);
  const { job } = toHashJob({ candidates: candidates.filter(({ key }) => key === 'whole') });
  await native().sha256(job, null).result;
}

type Pushes = Readonly<Record<'none' | 'digest' | 'hashing', readonly Pushed[]>>;

function figures({ none, digest, hashing }: Pushes): Figure[] {
  const middle = (of: readonly Pushed[], value: (push: Pushed) => number) => median(of.map(value));
  // Neighbours are compared, so that a machine that gets busier counts on both sides.
  const percentLonger = (than: readonly Pushed[]) =>
    median(
      digest.map(({ pauseMs }, i) => {
        const without = than[i]?.pauseMs ?? Number.NaN;
        return (100 * (pauseMs - without)) / without;
      }),
    );
  const longer = percentLonger(none);
  const pauses = digest.map(({ pauseMs }) => pauseMs);
  const totals = none.map(({ totalMs }) => totalMs);
  const engineHash = Math.round(middle(digest, ({ engineHashMs }) => engineHashMs));
  return [
    {
      name: 'pause with our digests',
      unit: 'ms',
      ours: median(pauses),
      spread: spread(pauses),
      limit: { name: 'pause with none', value: middle(none, ({ pauseMs }) => pauseMs) },
      goal: { text: `≤ ${GOAL_PERCENT} % longer`, met: longer <= GOAL_PERCENT },
      note: `by the median of neighbouring pairs ${longer.toFixed(1)} % longer; the engine's own hashing, ${engineHash} ms, comes on top.`,
    },
    {
      name: 'pause with our digests, beside none after the same hashing outside of the update',
      unit: 'ms',
      ours: median(pauses),
      limit: { name: 'pause with none, after hashing', value: middle(hashing, ({ pauseMs }) => pauseMs) },
      goal: { text: '', met: null },
      note: `by the median of neighbouring pairs ${percentLonger(hashing).toFixed(1)} % longer: so much is the update's own; the rest is what two cores that have just hashed do to a transfer.`,
    },
    {
      name: 'whole push with none',
      unit: 'ms',
      ours: median(totals),
      spread: spread(totals),
      peer: { name: '--verify digest', value: middle(digest, ({ totalMs }) => totalMs) },
      goal: {
        text: 'no slower than with digests',
        met: median(totals) <= middle(digest, ({ totalMs }) => totalMs),
      },
    },
  ];
}
