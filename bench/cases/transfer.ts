/**
 * File → receivers: a sharded checkpoint through rank 0 to ranks that only receive, over the emulated libraries. The same frames, the same
 * receivers and the same libraries for all; in every round each contestant sends once.
 */
import { fileURLToPath } from 'node:url';
import { emulatorLibraries } from '#weightcast/native.js';
import { stagingFor } from '#weightcast/transports/nccl/wire/memory.js';
import { planWire } from '#weightcast/transports/nccl/wire/plan.js';
import { flattenPlan } from '#weightcast/weights/flatten.js';
import { orderForLoading } from '#weightcast/weights/order.js';
import type { BenchCase, Figure } from '../case.js';
import { checkpointOf } from '../harness/checkpoint.js';
import { compile } from '../harness/compile.js';
import { availableMemory } from '../harness/machine.js';
import { interleave, median, spread } from '../harness/statistics.js';
import { type Push, push, type Receivers, type Sender } from './transfer/contestant.js';
import { packedProducer } from './transfer/packed-producer.js';

const MIB = 2 ** 20;
/** A round takes half a minute where nothing else runs. */
const ROUNDS_MS = 150_000;
const RECEIVERS = 2;
/** As a push has it by default. */
const PACKED_BUFFER_BYTES = 256 * MIB;
/** Of a plain C program's rate. */
const GOAL_OF_PLAIN = 0.85;
const GOAL_OF_PRODUCER = 1.5;
const GOAL_LOOP_MS = 10;
const GOAL_ABOVE_STAGING = 64 * MIB;

export const transfer: BenchCase = {
  name: 'transfer',
  about: `A sharded checkpoint from files (in the page cache) to ${RECEIVERS} receivers over the emulator, from the first read to the last byte sent (staging memory is there, as in every update of a session but the first), in broadcasts of ${PACKED_BUFFER_BYTES / MIB} MiB: a plain C program that reads and sends the same, and vLLM's own packed producer.`,
  timeoutMs: 540_000,
  async run(context) {
    const { quick, signal } = context;
    const checkpoint = await checkpointOf(context, quick ? 1 : 8);
    const packing = { bufferBytes: PACKED_BUFFER_BYTES, numBuffers: 2 };
    const plan = planWire(orderForLoading(checkpoint.tensors), packing);
    const staging = stagingFor(plan);
    const native = flattenPlan(plan.frames, checkpoint.files, staging);

    // Every rank holds two frames, the sender pinned pieces besides; and the files should stay in the page cache.
    const needed = plan.byteLength + (1 + RECEIVERS) * staging.peakBytes.device + staging.peakBytes.pinned;
    const room = availableMemory();
    if (room < needed * 1.2)
      context.log(`${room} bytes of memory are available and ${needed} are needed: the disk is measured too`);

    const receivers: Receivers = {
      program: await compile('receiver', context.scratch),
      count: RECEIVERS,
      frames: plan.frames.map(({ byteLength }) => byteLength),
    };
    const worldSize = String(1 + RECEIVERS);
    const ours: Sender = {
      command: process.execPath,
      args: [
        fileURLToPath(new URL('./transfer/ours.js', import.meta.url)),
        checkpoint.path ?? '',
        worldSize,
        String(PACKED_BUFFER_BYTES),
      ],
      input: '',
    };
    const plain: Sender = {
      command: await compile('plain_sender', context.scratch),
      args: [emulatorLibraries.cuda, emulatorLibraries.nccl, worldSize],
      input: plainPlan(native),
    };
    const producer = await packedProducer(context, {
      worldSize,
      bufferBytes: PACKED_BUFFER_BYTES,
      order: plan.tensors.map(({ name }) => name),
      checkpoint,
    });

    const run = (name: string, sender: Sender) => async (): Promise<Push> => {
      const pushed = await push(name, sender, receivers, signal);
      context.log(`${name}: ${(plan.byteLength / pushed.seconds / 1e9).toFixed(2)} GB/s`);
      return pushed;
    };
    await run('warming up', plain)(); // the files come into the page cache
    const contestants: Record<string, () => Promise<Push>> = {
      ours: run('weightcast', ours),
      plain: run('plain C', plain),
    };
    if (producer !== null) contestants['producer'] = run(producer.name, producer.sender);
    const pushes: Pushes = await interleave(contestants, quick ? 1 : 3, ROUNDS_MS);
    for (const [of, version] of Object.entries(pushes.producer?.[0]?.versions ?? {}))
      context.version(of, version);
    requireSameBytes(Object.values(pushes).flat());
    return figures(pushes, plan.byteLength, producer?.name ?? null);
  },
};

/** The plan as plain_sender.c reads it. */
function plainPlan(native: ReturnType<typeof flattenPlan>): string {
  const words: (string | number)[] = [native.pieces, native.pieceBytes, native.files.length, ...native.files];
  words.push(native.frameRanges.length);
  let range = 0;
  for (const ranges of native.frameRanges) {
    words.push(ranges);
    for (const end = range + ranges; range < end; range += 1) {
      words.push(
        native.rangeSource[range] ?? 0,
        native.rangeOffset[range] ?? 0,
        native.rangeLength[range] ?? 0,
      );
    }
  }
  return words.join(' ');
}

function requireSameBytes(pushes: readonly Push[]): void {
  const digests = new Set(pushes.map(({ received }) => received));
  if (digests.size !== 1) throw new Error('the receivers got other bytes from one sender than from another');
}

type Contestant = 'ours' | 'plain' | 'producer';
type Pushes = Readonly<Partial<Record<Contestant, readonly Push[]>>>;

function figures(pushes: Pushes, byteLength: number, producerName: string | null): Figure[] {
  const of = (who: Contestant, value: (push: Push) => number): number[] => (pushes[who] ?? []).map(value);
  const own = (value: (own: NonNullable<Push['ours']>) => number): number[] =>
    (pushes.ours ?? []).flatMap(({ ours }) => (ours === undefined ? [] : [value(ours)]));
  const rate = ({ seconds }: Push): number => byteLength / seconds / 1e9;
  const beside = (value: (push: Push) => number): Pick<Figure, 'limit' | 'peer'> => ({
    limit: { name: 'plain C', value: median(of('plain', value)) },
    ...(producerName === null ? {} : { peer: { name: producerName, value: median(of('producer', value)) } }),
  });
  const against = (value: (push: Push) => number, met: (ours: number, peer: number) => boolean) =>
    producerName === null ? null : met(median(of('ours', value)), median(of('producer', value)));
  const cpu = ({ cpuSeconds }: Push): number => cpuSeconds;
  const memory = ({ peakBytes }: Push): number => peakBytes / MIB;
  const rates = of('ours', rate);
  const stages = (name: 'readMs' | 'copyMs' | 'broadcastMs') => Math.round(median(own((it) => it[name])));
  const common = { unit: 'GB/s', ours: median(rates), spread: spread(rates) };
  const lag = own(({ loopDelayP99Ms }) => loopDelayP99Ms);
  const above = (pushes.ours ?? []).map(
    ({ peakBytes, ours }) => (peakBytes - (ours?.stagingBytes ?? 0)) / MIB,
  );
  return [
    {
      name: 'rate, against plain C',
      ...common,
      ...beside(rate),
      goal: {
        text: `≥ ${GOAL_OF_PLAIN * 100} % of plain C`,
        met: median(rates) >= GOAL_OF_PLAIN * median(of('plain', rate)),
      },
      note: `stages busy in a median push: reading ${stages('readMs')} ms, copying ${stages('copyMs')} ms, broadcasting ${stages('broadcastMs')} ms.`,
    },
    {
      name: "rate, against vLLM's sender",
      ...common,
      ...beside(rate),
      goal: {
        text: `≥ ${GOAL_OF_PRODUCER} times vLLM's sender`,
        met: against(rate, (mine, theirs) => mine >= GOAL_OF_PRODUCER * theirs),
      },
    },
    {
      name: 'CPU time of the sender',
      unit: 's',
      ours: median(of('ours', cpu)),
      spread: spread(of('ours', cpu)),
      ...beside(cpu),
      goal: { text: "less than vLLM's sender", met: against(cpu, (mine, theirs) => mine < theirs) },
    },
    {
      name: 'peak memory of the sender',
      unit: 'MiB',
      ours: median(of('ours', memory)),
      spread: spread(of('ours', memory)),
      ...beside(memory),
      goal: { text: "less than vLLM's sender", met: against(memory, (mine, theirs) => mine < theirs) },
      note: "resident memory, the emulated device's included; of vLLM's sender it counts the pages of the files that it maps.",
    },
    {
      name: 'peak memory above the declared staging',
      unit: 'MiB',
      ours: Math.max(...above),
      goal: {
        text: `≤ ${GOAL_ABOVE_STAGING / MIB} MiB`,
        met: Math.max(...above) * MIB <= GOAL_ABOVE_STAGING,
      },
      note: 'the whole process, Node included; the worst of the repeats.',
    },
    {
      name: 'event-loop delay p99',
      unit: 'ms',
      ours: median(lag),
      spread: spread(lag),
      goal: { text: `≤ ${GOAL_LOOP_MS} ms`, met: median(lag) <= GOAL_LOOP_MS },
    },
  ];
}
