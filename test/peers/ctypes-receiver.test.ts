/**
 * A Python program that follows NCCL's C API and has never seen our code gets byte-identical tensors: over the emulated libnccl,
 * joined by the store (vLLM 0.28) and by the inline unique id (0.32).
 */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type MadeTensor, madeTensor, writeCheckpoint } from './support/checkpoint.js';
import { push } from './support/command.js';
import { lane } from './support/lane.js';
import { type Received, startReceiver } from './support/receiver.js';

const EMULATE = ['--transport', 'nccl', '--emulate'];

/** Every dtype that may travel by itself, in sizes that cross the buffer, fill it exactly, and would misalign their neighbours. */
const LAYERS: readonly MadeTensor[] = [
  madeTensor('model.embed_tokens.weight', 'BF16', 'bfloat16', 2, [97, 33]),
  ...[0, 1, 2].flatMap((layer) => [
    madeTensor(`model.layers.${layer}.mlp.weight`, 'F8_E4M3', 'float8_e4m3fn', 1, [31, 29]),
    madeTensor(`model.layers.${layer}.mlp.weight_scale_inv`, 'F32', 'float32', 4, [3, 1]),
    madeTensor(`model.layers.${layer}.mlp.bias`, 'F16', 'float16', 2, [7]),
    madeTensor(`model.layers.${layer}.table`, 'I64', 'int64', 8, [5, 3]),
    madeTensor(`model.layers.${layer}.bytes`, 'U8', 'uint8', 1, [1]),
  ]),
  madeTensor('model.exact.weight', 'U8', 'uint8', 1, [4096]),
  madeTensor('model.empty', 'BF16', 'bfloat16', 2, [0, 8]),
  madeTensor('lm_head.weight', 'F64', 'float64', 8, [301, 17]),
];
/** NCCL's type table has no room for these by themselves; packed they are bytes. */
const PACKED_ONLY: readonly MadeTensor[] = [
  madeTensor('model.mask', 'BOOL', 'bool', 1, [13]),
  madeTensor('model.half.weight', 'F8_E5M2', 'float8_e5m2', 1, [9, 9]),
];

function expected(tensors: readonly MadeTensor[], workers: number): Received {
  const each = Object.fromEntries(
    tensors.map(({ name, torch, shape, bytes }) => [
      name,
      { dtype: torch, shape, sha256: createHash('sha256').update(bytes).digest('hex') },
    ]),
  );
  return Object.fromEntries(Array.from({ length: workers }, (_, index) => [`dp0:pp0:pcp0:tp${index}`, each]));
}

await lane('ctypes receiver', null, () => {
  let directory: string;
  const all = [...LAYERS, ...PACKED_ONLY];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'weightcast-ctypes-'));
    await writeCheckpoint(join(directory, 'all'), [all.slice(0, 7), all.slice(7, 12), all.slice(12)]);
    await writeCheckpoint(join(directory, 'layers'), [LAYERS.slice(0, 9), LAYERS.slice(9)]);
    await writeCheckpoint(join(directory, 'scalar'), [
      [madeTensor('scale', 'F32', 'float32', 4, []), madeTensor('w', 'BF16', 'bfloat16', 2, [4])],
    ]);
  });
  afterAll(() => rm(directory, { recursive: true }));

  test.each([
    ['0.28.0', 1, 'store'],
    ['0.32.0', 2, 'inline unique id'],
  ])('a packed push reaches vLLM %s with %i ranks, joined by %s, byte for byte', async (version, workers) => {
    await using receiver = await startReceiver(version, workers);
    const args = [...EMULATE, '--packed-buffer-bytes', '4096', '--verify', 'none'];
    const pushed = await push(join(directory, 'all'), [receiver], args);
    expect(pushed.report, pushed.stderr).toMatchObject({ outcome: 'updated', emulated: true, error: null });
    expect(pushed.code).toBe(0);
    expect(pushed.report.transfer!.frames).toBeGreaterThan(3);
    expect(await receiver.received()).toEqual(expected(all, workers));
    expect(await receiver.isPaused()).toBe(false);
  });

  test.each([
    ['0.28.0', 2],
    ['0.32.0', 1],
  ])('a per-tensor push reaches vLLM %s with %i ranks, byte for byte', async (version, workers) => {
    await using receiver = await startReceiver(version, workers);
    const args = [...EMULATE, '--no-packed', '--verify', 'none'];
    const pushed = await push(join(directory, 'layers'), [receiver], args);
    expect(pushed.report, pushed.stderr).toMatchObject({ outcome: 'updated', error: null });
    expect(await receiver.received()).toEqual(expected(LAYERS, workers));
  });

  test('two engines of different versions and sizes share one group', async () => {
    await using older = await startReceiver('0.28.0', 2);
    await using newer = await startReceiver('0.32.0', 1);
    const args = [...EMULATE, '--packed-buffer-bytes', '4096', '--verify', 'none'];
    const pushed = await push(join(directory, 'all'), [older, newer], args);
    expect(pushed.report, pushed.stderr).toMatchObject({ outcome: 'updated', nccl: { worldSize: 4 } });
    expect(await older.received()).toEqual(expected(all, 2));
    expect(await newer.received()).toEqual(expected(all, 1));
  });

  test('the receiver’s own checker proves every tensor that has bytes by digest', async () => {
    await using receiver = await startReceiver('0.32.0', 2);
    const pushed = await push(join(directory, 'all'), [receiver], [...EMULATE, '--verify', 'digest']);
    expect(pushed.report, pushed.stderr).toMatchObject({
      outcome: 'updated',
      engines: [{ proof: { method: 'digest', mismatched: [] } }],
    });
    const { proved, total, unprovable } = pushed.report.engines[0]!.proof!;
    expect([proved, total]).toEqual([(all.length - 1) * 2, all.length * 2]);
    expect(unprovable.every(({ parameter }) => parameter.endsWith(' model.empty'))).toBe(true);
  });

  test.each([
    ['a 0-d tensor in the packed format', 'scalar', '--packed'],
    ['a dtype that NCCL has no type for, by itself', 'all', '--no-packed'],
  ])('%s is refused before anyone is paused', async (_, weights, format) => {
    await using receiver = await startReceiver('0.32.0', 1);
    const pushed = await push(join(directory, weights), [receiver], [...EMULATE, format]);
    expect(pushed.code).toBe(1);
    expect(pushed.report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_TENSOR_UNSENDABLE' },
      pauseMs: null,
      engines: [{ state: 'serving-old' }],
    });
    expect(await receiver.received()).toEqual(expected([], 1));
  });
});
