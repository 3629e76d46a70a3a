import { describe, expect, it } from 'vitest';
import { jsonSteps } from '../../src/engines/json-body.js';
import { planSteps, planWire } from '../../src/transports/nccl/wire/plan.js';
import { flattenSteps } from '../../src/weights/flatten.js';
import { orderForLoading, orderSteps } from '../../src/weights/order.js';
import { tiedNames } from '../../src/weights/proof/names.js';
import { candidateSteps, candidatesFor, hashJobSteps } from '../../src/weights/proof.js';
import type { Steps } from '../../src/weights/yielding.js';
import { tensorOf } from './files.js';

/** A mixture of experts of 36,480 tensors, whose order in the file is that of their names as text. */
const tensors = (() => {
  const names: string[] = [];
  for (let layer = 0; layer < 95; layer += 1) {
    for (let expert = 0; expert < 128; expert += 1) {
      for (const part of ['gate_proj', 'up_proj', 'down_proj']) {
        names.push(`model.layers.${layer}.mlp.experts.${expert}.${part}.weight`);
      }
    }
  }
  return names.sort().map((name, i) => tensorOf(name, 'BF16', [16, 16], 512 * i));
})();
const files = [{ path: '/model.safetensors', byteLength: 512 * tensors.length }];
const staging = { slots: 2, slotBytes: 2 ** 20, pieces: 2, pieceBytes: 2 ** 20 };
const packing = { bufferBytes: 2 ** 20, numBuffers: 2 };
/** Work that may be done in one go: some microseconds for each of so many tensors. */
const TENSORS_PER_YIELD = 8192;

function yieldsOf(steps: Steps<unknown>): number {
  for (let yields = 0; ; yields += 1) if (steps.next().done === true) return yields;
}

describe('planning an update of 36,480 tensors', () => {
  const order = orderForLoading(tensors);
  const plan = planWire(order, packing);
  const sharded = candidatesFor(tensors, 8);
  const segments = sharded.candidates.reduce((sum, candidate) => sum + candidate.segments.length, 0);

  it.each<[string, number, () => Steps<unknown>]>([
    ['the order', tensors.length, () => orderSteps(tensors)],
    ['the frames', tensors.length, () => planSteps('vllm', order, packing)],
    ['the ranges', tensors.length, () => flattenSteps(plan.frames, files, staging)],
    ['the list to declare', tensors.length, () => jsonSteps({ tensors: plan.tensors })],
    ['the candidates, one worker', tensors.length, () => candidateSteps(tensors, 1)],
    ['the candidates, eight workers', segments, () => candidateSteps(tensors, 8)],
    ['the tied names', tensors.length, () => tiedNames(tensors.map(({ name }) => name))],
    ['the hash job', segments, () => hashJobSteps(sharded)],
  ])('lets the event loop in again and again: %s', (_, items, steps) => {
    expect(yieldsOf(steps())).toBeGreaterThanOrEqual(Math.floor(items / TENSORS_PER_YIELD));
  });
});
