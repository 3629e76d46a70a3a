/** What changed, straight into the running model, beside the whole model: bytes on the wire, and how long engines are paused for them. */
import { fileURLToPath } from 'node:url';
import { stagingFor } from '#weightcast/transports/nccl/wire/memory.js';
import { openCheckpoint } from '#weightcast/weights/checkpoint.js';
import type { BenchCase, Figure } from '../case.js';
import { changedFrom } from '../harness/changed.js';
import { checkpointOf } from '../harness/checkpoint.js';
import { compile } from '../harness/compile.js';
import { interleave, median, spread } from '../harness/statistics.js';
import { type Delta, deltaOf, type Whole, wholeOf } from './delta-nccl/plans.js';
import { type Push, push, type Receivers } from './transfer/contestant.js';

const MIB = 2 ** 20;
const RECEIVERS = 2;
const ROUNDS_MS = 150_000;
/** Share of the elements that changed → the goal for the bytes, in percent of the whole model's. */
const SHARES: readonly { readonly fraction: number; readonly goal: number; readonly shorter?: number }[] = [
  { fraction: 0.01, goal: 3, shorter: 10 },
  { fraction: 0.05, goal: 15 },
];

export const deltaNccl: BenchCase = {
  name: 'delta-nccl',
  about: `A delta of 1 % and one of 5 % of the elements to ${RECEIVERS} receivers over the emulator, beside the whole model by the dense push: from the first broadcast to the last byte at all of them, everything staged before: the part of a pause that grows with the model. The receivers hold the model, and must end with the same bytes; the whole one is received straight into its place, which no engine can do better.`,
  timeoutMs: 900_000,
  async run(context) {
    const { quick } = context;
    const base = await checkpointOf(context, quick ? 0.5 : 2);
    const program = await compile('delta_receiver', context.scratch);
    const figures: Figure[] = [];
    for (const { fraction, goal, shorter } of SHARES) {
      const next = await openCheckpoint(await changedFrom(context, base, fraction));
      const whole = await wholeOf(next);
      await using delta = await deltaOf(base, next, context.signal);
      const run = (name: string, sparse: Delta | null) => async (): Promise<Push> => {
        const pushed = await push(
          name,
          sender(base.path, next.path, sparse),
          receivers(program, whole, sparse),
          context.signal,
        );
        context.log(`${name}: ${(pushed.seconds * 1e3).toFixed(0)} ms`);
        return pushed;
      };
      const pushes = await interleave(
        { delta: run(`delta of ${fraction * 100} %`, delta), whole: run('whole model', null) },
        quick ? 1 : 5,
        ROUNDS_MS,
      );
      const sums = new Set([...pushes.delta, ...pushes.whole].map(({ received }) => received));
      if (sums.size !== 1) throw new Error('the delta makes another model than the whole push');
      figures.push(...figuresOf({ fraction, goal, shorter, delta, whole }, pushes));
    }
    return figures;
  },
};

function sender(base: string | null, next: string | null, delta: Delta | null) {
  const script = fileURLToPath(new URL('./delta-nccl/sender.js', import.meta.url));
  return {
    command: process.execPath,
    args: [script, base ?? '', next ?? '', String(1 + RECEIVERS)],
    input: delta === null ? '' : JSON.stringify({ frames: delta.plan.frames, files: delta.files }),
  };
}

function receivers(program: string, whole: Whole, delta: Delta | null): Receivers {
  const frames = whole.plan.frames.map(({ byteLength }) => byteLength);
  const patches = (delta?.plan.tensors ?? []).flatMap(({ name }, index) => {
    const { offset, itemBytes } = whole.places.get(name) as { offset: number; itemBytes: number };
    return [offset, itemBytes, delta?.plan.updates[index] ?? 0];
  });
  return {
    program,
    count: RECEIVERS,
    frames: [whole.plan.byteLength, frames.length, ...frames, patches.length / 3, ...patches],
  };
}

interface Measured {
  readonly fraction: number;
  readonly goal: number;
  readonly shorter?: number | undefined;
  readonly delta: Delta;
  readonly whole: Whole;
}

function figuresOf(
  { fraction, goal, shorter, delta, whole }: Measured,
  pushes: { readonly delta: readonly Push[]; readonly whole: readonly Push[] },
): Figure[] {
  const changed = `${fraction * 100} % changed`;
  const percent = (100 * delta.plan.byteLength) / whole.plan.byteLength;
  const ms = (of: readonly Push[]) => of.map(({ seconds }) => seconds * 1e3);
  const applied = median(pushes.delta.map(({ appliedSeconds = Number.NaN }) => appliedSeconds * 1e3));
  // Neighbours are compared, so that a machine that gets busier counts on both sides.
  const ratio = median(ms(pushes.whole).map((long, i) => long / (ms(pushes.delta)[i] as number)));
  const staging = stagingFor(delta.plan).peakBytes;
  return [
    {
      name: `${changed}: bytes`,
      unit: '% of the whole model',
      ours: percent,
      goal: { text: `≤ ${goal} %`, met: percent <= goal },
      note: `${delta.plan.byteLength} bytes instead of ${whole.plan.byteLength}; found before the pause, at ${delta.diffRate.toFixed(2)} GB/s of the new version; staging ${Math.round((staging.device + staging.pinned) / MIB)} MiB.`,
    },
    {
      name: `${changed}: time to receive`,
      unit: 'ms',
      ours: median(ms(pushes.delta)),
      spread: spread(ms(pushes.delta)),
      peer: { name: 'the whole model, dense', value: median(ms(pushes.whole)) },
      goal: {
        text: shorter === undefined ? '' : `≥ ${shorter} times shorter`,
        met: shorter === undefined ? null : ratio >= shorter,
      },
      note: `by the median of neighbouring pairs ${ratio.toFixed(1)} times shorter; ${applied.toFixed(0)} ms with the elements in their places, which one core does here for each receiver, a cache line an element.`,
    },
  ];
}
