/**
 * Workers on NVIDIA Dynamo's own runtime, with its own handlers, take our pushes; what they hold afterwards is compared byte for
 * byte. The engine below the handlers is ours (support/dynamo/engine.py): dynamo-vllm.test.ts has the real one.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest';
import { computeTeacherLogprobs, connectFleet, type FleetOptions, InferenceClient } from '../../src/index.js';
import { type MadeTensor, madeTensor, writeCheckpoint } from './support/checkpoint.js';
import { push } from './support/command.js';
import { type Deployment, deploy, untilListed } from './support/dynamo/deployment.js';
import type { Frontend } from './support/dynamo/frontend.js';
import { filePlane } from './support/dynamo/plane.js';
import { engine, received } from './support/dynamo/worker.js';
import { lane } from './support/lane.js';
import type { Received } from './support/receiver.js';
import { dynamoPackages } from './support/venv.js';

const NCCL = ['--transport', 'nccl', '--emulate'];

/** The same names and shapes with other bytes. */
function model(seed: string): readonly MadeTensor[] {
  const named = (name: string, ...rest: [string, string, number, readonly number[]]): MadeTensor => ({
    ...madeTensor(`${seed}.${name}`, ...rest),
    name,
  });
  return [
    named('model.embed_tokens.weight', 'BF16', 'bfloat16', 2, [97, 33]),
    ...[0, 1, 2].flatMap((layer) => [
      named(`model.layers.${layer}.mlp.weight`, 'F8_E4M3', 'float8_e4m3fn', 1, [31, 29]),
      named(`model.layers.${layer}.mlp.scale`, 'F32', 'float32', 4, [3, 1]),
    ]),
    named('lm_head.weight', 'F16', 'float16', 2, [301, 17]),
  ];
}

const MODELS = { a: model('a'), b: model('b'), c: model('c') } as const;
type ModelName = keyof typeof MODELS;

function bytesOf(name: ModelName): Received[string] {
  return Object.fromEntries(
    MODELS[name].map(({ name: tensor, torch, shape, bytes }) => [
      tensor,
      { dtype: torch, shape, sha256: createHash('sha256').update(bytes).digest('hex') },
    ]),
  );
}

await lane('dynamo 1.6.1, pushes', dynamoPackages, (python) => {
  let deployment: Deployment;
  let frontend: Frontend;
  /** System URLs: one of two GPU workers, one of one. */
  let two: string;
  let one: string;
  const directory = (name: ModelName) => join(deployment.directory, name);
  const engines = () => [
    `dynamo=${two},workers=2,inference=${frontend.url}`,
    `dynamo=${one},workers=1,inference=${frontend.url}`,
  ];

  const fleetOf = (options: Partial<FleetOptions> = {}) =>
    connectFleet({ engines: engines(), emulate: true, ...options });

  async function expectServes(name: ModelName, version: string): Promise<void> {
    for (const [url, ranks] of [
      [two, 2],
      [one, 1],
    ] as const) {
      expect((await received(url)).ranks).toEqual(Array.from({ length: ranks }, () => bytesOf(name)));
      expect((await engine(url, 'get_weight_version')).body).toMatchObject({
        version,
        version_declared: true,
      });
      // Refused without a path when paused, and before that when not: nothing is touched.
      expect((await engine(url, 'update_weights_from_disk')).body.message).toMatch(/^Worker must be paused/);
    }
  }

  beforeAll(async () => {
    deployment = await deploy(python, await filePlane());
    frontend = await deployment.frontend();
    await deployment.worker({ workers: 2 });
    await deployment.worker();
    const listed = await untilListed(frontend, 2);
    two = listed.find((worker) => worker.world_size === 2)!.system_url!;
    one = listed.find((worker) => worker.world_size === 1)!.system_url!;
    for (const name of ['a', 'b', 'c'] as const) {
      await writeCheckpoint(directory(name), [MODELS[name].slice(0, 3), MODELS[name].slice(3)]);
    }
  });
  afterAll(() => deployment?.stop());
  beforeEach(() => {
    onTestFailed(() => void process.stderr.write(deployment.logs()));
  });

  test('an update by files reaches every rank, with its tag read back', async () => {
    await using fleet = await fleetOf({ transport: 'filesystem' });
    expect(await fleet.update(directory('a'), { version: 'a-1' })).toMatchObject({
      outcome: 'updated',
      error: null,
      engines: [
        { state: 'serving-new', weightVersion: 'a-1' },
        { state: 'serving-new', weightVersion: 'a-1' },
      ],
    });
    await expectServes('a', 'a-1');
  });

  test.each([
    ['packed', 'b', ['--packed-buffer-bytes', '4096']],
    ['per tensor', 'c', ['--no-packed']],
  ] as const)('a push by NCCL through vLLM’s own methods reaches every rank: %s', async (_, name, format) => {
    const pushed = await push(directory(name), engines(), [
      ...[...NCCL, ...format],
      ...['--weight-version', `${name}-1`],
    ]);
    expect(pushed.report, pushed.stderr).toMatchObject({
      outcome: 'updated',
      error: null,
      nccl: { worldSize: 4 },
      engines: [{ weightVersion: `${name}-1` }, { weightVersion: `${name}-1` }],
    });
    expect(pushed.code).toBe(0);
    await expectServes(name, `${name}-1`);
  });

  test('five updates in one session, over one rendezvous', async () => {
    await using fleet = await fleetOf({ packedBufferBytes: 4096 });
    for (const [index, name] of (['a', 'b', 'a', 'c', 'b'] as const).entries()) {
      const report = await fleet.update(directory(name), { version: `step-${index}` });
      expect(report).toMatchObject({ outcome: 'updated', nccl: { reused: index > 0 } });
      await expectServes(name, `step-${index}`);
    }
  });

  test('teacher log-probabilities come through the real frontend, each by its own token', async () => {
    await using teacher = new InferenceClient(`dynamo=${frontend.url}`);
    const samples = [
      [300, 64, 9, 128],
      [1, 2, 3, 500, 499],
    ];
    // engine.py scores a token by -id/64, and token 9 is the likelier one beside each.
    const expected = samples.map((tokens) =>
      tokens.map((token, index) => (index === 0 ? 0 : token === 9 ? -0.125 : -token / 64)),
    );
    expect(await computeTeacherLogprobs([teacher], 'tiny', samples)).toEqual(expected);
  });
});
