/**
 * A prime-rl server that shares nothing with our code (support/prime_rl_server.py: written from the contract, over vLLM's own communicator and torch) takes
 * pushes as a user makes them: every frame and every byte. And a real torch loads our pickles.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pickleMetadata } from '../../src/transports/nccl/wire/prime-rl-metadata.js';
import type { UpdateReport } from '../../src/update/types.js';
import { tensorOf } from '../weights/files.js';
import { type MadeTensor, madeTensor, writeCheckpoint } from './support/checkpoint.js';
import { weightcast } from './support/command.js';
import { lane } from './support/lane.js';
import { type PrimeRlServer, startPrimeRl } from './support/prime-rl.js';
import { run } from './support/process.js';
import { vllmPackages } from './support/venv.js';

/** Every dtype that the communicator has a type for, in two layers and none; a scalar, and one without elements. */
const layer = (index: number, salt: string): MadeTensor[] => [
  madeTensor(`model.layers.${index}.mlp.weight`, 'F8_E4M3', 'float8_e4m3fn', 1, [31, 29]),
  madeTensor(`model.layers.${index}.mlp.weight_scale_inv`, 'F32', 'float32', 4, [3, 1]),
  madeTensor(`model.layers.${index}.norm${salt}.weight`, 'BF16', 'bfloat16', 2, [77]),
  madeTensor(`model.layers.${index}.table`, 'I64', 'int64', 8, [5, 3]),
  madeTensor(`model.layers.${index}.bytes`, 'U8', 'uint8', 1, [1]),
];
const checkpoint = (salt: string): MadeTensor[] => [
  madeTensor(`model.embed_tokens${salt}.weight`, 'BF16', 'bfloat16', 2, [97, 33]),
  madeTensor('model.scale', 'F32', 'float32', 4, []),
  madeTensor('model.empty', 'F16', 'float16', 2, [0, 8]),
  madeTensor('model.signed', 'I8', 'int8', 1, [11]),
  madeTensor('model.counts', 'I32', 'int32', 4, [2, 2]),
  ...layer(1, salt),
  ...layer(0, salt),
  madeTensor('lm_head.weight', 'F64', 'float64', 8, [301, 17]),
];

const expected = (tensors: readonly MadeTensor[]) =>
  Object.fromEntries(
    tensors.map(({ name, torch, shape, bytes }) => [
      name,
      { dtype: torch, shape, sha256: createHash('sha256').update(bytes).digest('hex') },
    ]),
  );

const PICKLES = `
import json, pickle, sys, torch
for line in sys.stdin:
    loaded = pickle.loads(bytes.fromhex(line))
    assert all(type(dtype) is torch.dtype for dtype in loaded)
    print(json.dumps([[str(dtype), members] for dtype, members in loaded.items()]))
`;

await lane('prime-rl', vllmPackages('0.28.0'), (python) => {
  let directory: string;
  let two: PrimeRlServer;
  let one: PrimeRlServer;
  const first = checkpoint('');
  const second = checkpoint('2');

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'weightcast-prime-rl-'));
    await writeCheckpoint(join(directory, 'first'), [first.slice(0, 6), first.slice(6)]);
    await writeCheckpoint(join(directory, 'second'), [second]);
    [two, one] = await Promise.all([startPrimeRl(python, 2), startPrimeRl(python, 1)]);
  }, 600_000);
  afterAll(async () => {
    await Promise.all([two, one].map((server) => server?.[Symbol.asyncDispose]()));
    await rm(directory, { recursive: true });
  });

  async function push(name: string, servers: readonly PrimeRlServer[], args: readonly string[] = []) {
    const engines = servers.flatMap(({ url, workers }) => ['--engine', `prime-rl=${url},workers=${workers}`]);
    const all = ['push', join(directory, name), ...engines, '--emulate', ...args, '--json'];
    const outcome = await weightcast(all, { timeoutMs: 300_000 });
    const report = JSON.parse(outcome.stdout || 'null') as UpdateReport | null;
    expect(report, outcome.stderr).toMatchObject({ outcome: 'updated', error: null });
    expect(outcome.code).toBe(0);
    return report as UpdateReport;
  }

  async function expectHolds(server: PrimeRlServer, tensors: readonly MadeTensor[]) {
    const { workers, paused } = await server.state();
    expect(workers.map((worker) => worker.tensors)).toEqual(
      Array.from({ length: server.workers }, () => expected(tensors)),
    );
    expect(paused).toBe(false);
    return workers;
  }

  test('pickles are loaded by a real torch to the dict that is meant', async () => {
    const shape = (extents: readonly number[]) => ({ ...tensorOf('x', 'U8', [1]), shape: extents });
    const dicts = [
      [],
      [{ torchName: 'bfloat16', tensors: [{ ...shape([2, 3]), name: 'a.weight' }] }],
      [
        { torchName: 'float8_e4m3fn', tensors: [{ ...shape([256, 65_536]), name: 'модель.層.🙂\n' }] },
        { torchName: 'float32', tensors: [shape([]), { ...shape([0, 2 ** 31]), name: 'empty' }] },
        {
          torchName: 'int64',
          tensors: [
            shape([2 ** 31 - 1]),
            { ...shape([2 ** 31, 3]), name: 'big' },
            { ...shape([2 ** 53 - 1]), name: 'huge' },
          ],
        },
      ],
    ];
    const input = dicts.map((groups) => Buffer.from(pickleMetadata(groups)).toString('hex')).join('\n');
    const outcome = await run(python.python, ['-c', PICKLES], { input, timeoutMs: 240_000 });
    expect(outcome.code, outcome.stderr).toBe(0);
    const loaded = outcome.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
    expect(loaded).toEqual(
      dicts.map((groups) =>
        groups.map(({ torchName, tensors }) => [
          `torch.${torchName}`,
          tensors.map(({ name, shape: extents }) => [
            name,
            extents,
            extents.reduce((n, extent) => n * extent, 1),
          ]),
        ]),
      ),
    );
  });

  test('a push reaches two workers byte for byte, by the requests of the contract', async () => {
    const report = await push('first', [two]);
    await expectHolds(two, first);
    expect(report.nccl).toMatchObject({ worldSize: 3 });
    const { log } = await two.state();
    expect(log.map(([path]) => path)).toEqual([
      '/init_broadcaster',
      '/pause?mode=keep&clear_cache=false',
      '/update_weights',
      '/resume',
    ]);
    expect(JSON.parse(log[0]?.[1] ?? '')).toMatchObject({ rank_offset: 0, inference_world_size: 2 });
    expect(log[2]?.[1]).toBe(JSON.stringify({ weight_dir: join(directory, 'first') }));
  });

  test('without --packed the frames are prime-rl’s own: all that is in no layer, then one dict a layer', async () => {
    await push('second', [two], ['--no-packed']);
    const [worker] = await expectHolds(two, second);
    const frames = worker?.frames ?? [];
    // The count; for dict 0 a length, a pickle and six dtypes; for each layer a length, a pickle and five.
    const bytesOf = (index: number) =>
      second.filter(({ name }) => name.startsWith(`model.layers.${index}.`)).map(({ bytes }) => bytes.length);
    const ascending = (sizes: readonly number[]) => [...sizes].sort((one, other) => one - other);
    expect([frames[0], frames[1], frames.at(-14), frames.at(-7)]).toEqual([8, 8, 8, 8]);
    expect(ascending(frames.slice(-12, -7))).toEqual(ascending(bytesOf(0)));
    expect(ascending(frames.slice(-5))).toEqual(ascending(bytesOf(1)));
    expect(frames).toHaveLength(1 + (2 + 6) + 7 + 7);
  });

  test('a bound cuts the dicts, and changes no byte', async () => {
    const before = (await two.state()).workers[0]?.frames.length ?? 0;
    await push('first', [two], ['--packed-buffer-bytes', '2048']);
    const [worker] = await expectHolds(two, first);
    expect(worker?.frames.length).toBeGreaterThan(before);
  });

  test('servers of different sizes share one group, each at its own offset', async () => {
    const report = await push('second', [one, two], ['--verify', 'none']);
    await expectHolds(one, second);
    await expectHolds(two, second);
    expect(report.nccl).toMatchObject({ worldSize: 4 });
    const { log } = await two.state();
    const joined = log.filter(([path]) => path === '/init_broadcaster').at(-1)?.[1] ?? '';
    expect(JSON.parse(joined)).toMatchObject({ rank_offset: 1, inference_world_size: 3 });
  });
});
