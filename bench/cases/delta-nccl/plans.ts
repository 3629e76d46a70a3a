/** The two plans for one new version: whole, and what differs from the version before. */
import type { WirePlan } from '#weightcast/transports/nccl/wire/frame.js';
import { planWire } from '#weightcast/transports/nccl/wire/plan.js';
import { sparseSteps } from '#weightcast/transports/nccl/wire/sparse.js';
import { diffPairs } from '#weightcast/update/delta/diff.js';
import { Spool } from '#weightcast/update/delta/spool.js';
import type { Checkpoint } from '#weightcast/weights/checkpoint.js';
import { orderForLoading } from '#weightcast/weights/order.js';
import { pairSteps } from '#weightcast/weights/pairs.js';
import { runToEnd } from '#weightcast/weights/yielding.js';

/** As a push has it by default. */
export const PACKING = { bufferBytes: 256 * 2 ** 20, numBuffers: 2 };

export interface Whole {
  readonly plan: WirePlan;
  /** Where each tensor lies among the bytes of the plan. */
  readonly places: ReadonlyMap<string, { readonly offset: number; readonly itemBytes: number }>;
}

export function wholeOf(checkpoint: Checkpoint): Whole {
  const plan = planWire(orderForLoading(checkpoint.tensors), PACKING);
  const tensors = new Map(checkpoint.tensors.map((tensor) => [tensor.name, tensor]));
  const places = new Map<string, { offset: number; itemBytes: number }>();
  let offset = 0;
  for (const { name } of plan.tensors) {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new Error(`no tensor ${name}`);
    places.set(name, { offset, itemBytes: tensor.dtype.bits / 8 });
    offset += tensor.range.byteLength;
  }
  return { plan, places };
}

export interface Delta extends AsyncDisposable {
  readonly plan: ReturnType<typeof sparsePlan>;
  readonly files: readonly { readonly path: string; readonly byteLength: number }[];
  /** Bytes of the new version a second, in GB. */
  readonly diffRate: number;
}

const sparsePlan = (...args: Parameters<typeof sparseSteps>) => runToEnd(sparseSteps(...args));

export async function deltaOf(base: Checkpoint, next: Checkpoint, signal: AbortSignal): Promise<Delta> {
  const spool = await Spool.create();
  const began = performance.now();
  const { changes, files } = await diffPairs(runToEnd(pairSteps(base, next)), {
    spool,
    files: [...base.files, ...next.files],
    limitBytes: next.byteLength,
    signal,
    onProgress: () => undefined,
  });
  const seconds = (performance.now() - began) / 1e3;
  const changesOf = new Map(changes.map((change) => [change.tensor.name, change]));
  const order = orderForLoading(next.tensors);
  return {
    plan: sparsePlan(
      order.flatMap(({ name }) => changesOf.get(name) ?? []),
      order,
    ),
    files,
    diffRate: next.byteLength / seconds / 1e9,
    [Symbol.asyncDispose]: () => spool.close(),
  };
}
