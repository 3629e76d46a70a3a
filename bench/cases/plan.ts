/** What stands between a checkpoint of 37,000 tensors and the addon: order, frames, ranges, and the list that engines are sent. */
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks';
import { jsonSteps } from '#weightcast/engines/json-body.js';
import { planSteps } from '#weightcast/transports/nccl/wire/plan.js';
import { DTYPES } from '#weightcast/weights/dtype.js';
import { flattenSteps } from '#weightcast/weights/flatten.js';
import { orderSteps } from '#weightcast/weights/order.js';
import { candidateSteps, hashJobSteps } from '#weightcast/weights/proof.js';
import type { Tensor } from '#weightcast/weights/tensor.js';
import { runInSlices } from '#weightcast/weights/yielding.js';
import type { BenchCase, Figure } from '../case.js';
import { median, spread } from '../harness/statistics.js';

const GOAL_MS = 50;
const GOAL_MICROSECONDS = 2;
const PACKING = { bufferBytes: 256 * 2 ** 20, numBuffers: 2 };
const STAGING = { slots: 2, slotBytes: 2 ** 30, pieces: 4, pieceBytes: 2 ** 24 };
/** JavaScript is compiled as it runs. */
const WARM_UP = 3;

export const plan: BenchCase = {
  name: 'plan',
  about:
    'A checkpoint in the shape of Qwen3-235B-A22B (36,945 tensors in 116 files): from its list of tensors to the plan that the addon takes, in slices of the event loop as an update makes it. Limit: one pass over the list that makes an object for each tensor.',
  async run({ quick }) {
    const tensors = mixtureOfExperts();
    const files = filesOf(tensors);
    const stages = {
      order: [] as number[],
      frames: [] as number[],
      ranges: [] as number[],
      list: [] as number[],
      candidates: [] as number[],
      pass: [] as number[],
    };
    const rounds = (quick ? 3 : 25) + WARM_UP;
    const delay = monitorEventLoopDelay({ resolution: 1 });
    let collectionMs = 0;
    const collections = new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) collectionMs = Math.max(collectionMs, duration);
    });
    for (let round = 0; round < rounds; round += 1) {
      if (round === WARM_UP) {
        for (const values of Object.values(stages)) values.length = 0;
        delay.enable();
        collections.observe({ entryTypes: ['gc'] });
      }
      const timed = async <T>(stage: keyof typeof stages, work: () => Promise<T>): Promise<T> => {
        const began = performance.now();
        const result = await work();
        stages[stage].push(performance.now() - began);
        return result;
      };
      const order = await timed('order', () => runInSlices(orderSteps(tensors), null));
      const wire = await timed('frames', () => runInSlices(planSteps('vllm', order, PACKING), null));
      await timed('ranges', () => runInSlices(flattenSteps(wire.frames, files, STAGING), null));
      await timed('list', () => runInSlices(jsonSteps({ tensors: wire.tensors }), null));
      await timed('candidates', async () => {
        const candidates = await runInSlices(candidateSteps(tensors, 1), null);
        return runInSlices(hashJobSteps(candidates), null);
      });
      await timed('pass', async () => tensors.map(({ name, shape, dtype }) => ({ name, shape, dtype })));
    }
    delay.disable();
    // They are told in a later turn.
    await new Promise((resolve) => setTimeout(resolve, 20));
    collections.disconnect();
    return figures(tensors.length, stages, { turnMs: delay.max / 1e6, collectionMs });
  },
};

type Stages = Readonly<
  Record<'order' | 'frames' | 'ranges' | 'list' | 'candidates' | 'pass', readonly number[]>
>;

interface Longest {
  readonly turnMs: number;
  readonly collectionMs: number;
}

function figures(tensors: number, stages: Stages, { turnMs, collectionMs }: Longest): Figure[] {
  const totals = stages.order.map(
    (ms, round) => ms + (stages.frames[round] ?? 0) + (stages.ranges[round] ?? 0),
  );
  const limit = { name: 'one pass over the list', value: median(stages.pass) };
  const total = median(totals);
  const each = (total * 1e3) / tensors;
  const stage = (name: string, values: readonly number[]): Figure => ({
    name,
    unit: 'ms',
    ours: median(values),
    spread: spread(values),
    goal: { text: '', met: null },
  });
  return [
    {
      name: `packed plan of ${tensors} tensors: order, frames, ranges`,
      unit: 'ms',
      ours: total,
      spread: spread(totals),
      limit,
      goal: { text: `≤ ${GOAL_MS} ms`, met: total <= GOAL_MS },
    },
    {
      name: 'the same for each tensor',
      unit: 'µs',
      ours: each,
      limit: { name: limit.name, value: (limit.value * 1e3) / tensors },
      goal: { text: `≤ ${GOAL_MICROSECONDS} µs`, met: each <= GOAL_MICROSECONDS },
    },
    stage('of it the order', stages.order),
    stage('of it the frames', stages.frames),
    stage('of it the ranges', stages.ranges),
    stage('the list as JSON, once for all engines', stages.list),
    stage('proof candidates and hash job, one worker', stages.candidates),
    {
      name: 'longest turn of the event loop in all rounds',
      unit: 'ms',
      ours: turnMs,
      limit: { name: 'longest garbage collection', value: collectionMs },
      goal: { text: 'a few ms: ≤ 20 ms', met: turnMs <= 20 },
      note: 'Slices are 4 ms; a garbage collection may fall into one.',
    },
  ];
}

function mixtureOfExperts(): Tensor[] {
  const dtype = DTYPES.get('BF16');
  if (dtype === undefined) throw new Error('no BF16');
  const tensors: Tensor[] = [];
  const ends = new Map<string, number>();
  const add = (name: string, ...shape: number[]): void => {
    const path = `/checkpoint/model-${String(Math.floor(tensors.length / 320) + 1).padStart(5, '0')}-of-00116.safetensors`;
    const offset = ends.get(path) ?? 40_000;
    const byteLength = shape.reduce((product, dimension) => product * dimension, 2);
    ends.set(path, offset + byteLength);
    tensors.push({ name, dtype, shape, range: { kind: 'file', path, offset, byteLength } });
  };
  add('lm_head.weight', 151_936, 4096);
  add('model.embed_tokens.weight', 151_936, 4096);
  for (let layer = 0; layer < 94; layer += 1) {
    const at = `model.layers.${layer}`;
    for (const norm of ['input_layernorm', 'post_attention_layernorm']) add(`${at}.${norm}.weight`, 4096);
    for (let expert = 0; expert < 128; expert += 1) {
      for (const part of ['down_proj', 'gate_proj', 'up_proj']) {
        add(
          `${at}.mlp.experts.${expert}.${part}.weight`,
          ...(part === 'down_proj' ? [4096, 1536] : [1536, 4096]),
        );
      }
    }
    add(`${at}.mlp.gate.weight`, 128, 4096);
    for (const norm of ['q_norm', 'k_norm']) add(`${at}.self_attn.${norm}.weight`, 128);
    for (const [part, rows] of [
      ['q_proj', 8192],
      ['k_proj', 512],
      ['v_proj', 512],
    ] as const) {
      add(`${at}.self_attn.${part}.weight`, rows, 4096);
    }
    add(`${at}.self_attn.o_proj.weight`, 4096, 8192);
  }
  add('model.norm.weight', 4096);
  return tensors;
}

function filesOf(tensors: readonly Tensor[]): { readonly path: string; readonly byteLength: number }[] {
  const sizes = new Map<string, number>();
  for (const { range } of tensors) {
    if (range.kind === 'file') sizes.set(range.path, range.offset + range.byteLength);
  }
  return [...sizes].map(([path, byteLength]) => ({ path, byteLength }));
}
