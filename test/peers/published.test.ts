/**
 * A published version is opened by software that knows nothing of us: the safetensors library and transformers take the folder as it is, and a real vLLM serves
 * version after version from it while old ones are removed and requests run.
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, onTestFailed, test } from 'vitest';
import { prune, publish } from '../../src/index.js';
import { push, weightcast } from './support/command.js';
import { post, SCORE_NOISE, scoreDistance, weightChecker } from './support/judge.js';
import { lane } from './support/lane.js';
import { type ModelName, type Models, type ModelTruth, makeModels } from './support/models.js';
import { run, tail } from './support/process.js';
import { startVllm, type VllmServer } from './support/server.js';
import { vllmPackages } from './support/venv.js';

const script = fileURLToPath(new URL('support/published_reference.py', import.meta.url));
/** CI has a few; `WEIGHTCAST_PUBLISHED_VERSIONS=100` is the whole loop. */
const VERSIONS = Number(process.env.WEIGHTCAST_PUBLISHED_VERSIONS ?? 8);
const modelOf = (version: number): ModelName => (['a', 'b', 'c'] as const)[version % 3] as ModelName;

/** What published_reference.py says of a folder. */
interface Opened extends Pick<ModelTruth, 'tensors' | 'logprobs'> {
  readonly formats: readonly string[];
  readonly total: number | null;
}

await lane('published versions', vllmPackages('0.32.0'), (python) => {
  let models: Models;
  let folder: string;
  let server: VllmServer | null = null;
  /** The server, which all tests share; what it printed, should the test fail. */
  const serving = async (): Promise<VllmServer> => {
    onTestFailed(() => {
      process.stderr.write(`${tail(server?.log() ?? '', 30)}\n`);
    });
    server ??= await startVllm({ python, model: models.directory('a'), transfer: 'none' });
    return server;
  };
  const pushVersion = async (path: string, version: number, to: VllmServer): Promise<void> => {
    const pushed = await push(path, [to], ['-t', 'filesystem', '--weight-version', String(version)]);
    expect(pushed.report, pushed.stderr).toMatchObject({ outcome: 'updated', transport: 'filesystem' });
    expect(await weightChecker(to)).toEqual(models.truth(modelOf(version)).served[1]);
  };

  beforeAll(async () => {
    models = await makeModels(python);
    folder = await mkdtemp(join(tmpdir(), 'weightcast-published-'));
  }, 900_000);
  afterAll(async () => {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  test('safetensors and transformers open one file, shards, and shards that were written in place', async () => {
    const directory = join(folder, 'opened');
    const published = [
      await publish(models.directory('a'), { directory, version: 1 }),
      await publish(models.directory('a'), { directory, version: 2, shardBytes: 100_000 }),
      await publish(models.directory('a'), {
        directory,
        version: 3,
        shardBytes: 100_000,
        commit: 'manifest-last',
      }),
    ];
    const args = [script, JSON.stringify(models.prompts), ...published.map(({ path }) => path)];
    const outcome = await run(python.python, args, { timeoutMs: 240_000 });
    expect(outcome.code, tail(outcome.stderr, 8)).toBe(0);
    const found: Opened[] = JSON.parse(outcome.stdout);
    const truth = models.truth('a');
    for (const [index, { manifest }] of published.entries()) {
      const { shards, totalBytes } = manifest;
      expect(found[index]).toEqual({
        formats: shards.map(() => 'pt'),
        tensors: truth.tensors,
        total: shards.length > 1 ? totalBytes : null,
        // The same computation on the same bytes.
        logprobs: truth.logprobs,
      });
    }
    expect(published.map(({ manifest }) => manifest.shards.length > 1)).toEqual([false, true, true]);
  });

  test(`a vLLM serves ${VERSIONS} versions one after the other, old ones removed and requests in flight`, async () => {
    const directory = join(folder, 'policy');
    const vllm = await serving();
    let going = true;
    let finished = 0;
    const client = async (seed: number) => {
      while (going) {
        const body = { model: vllm.model, prompt: [seed, 3, 5], max_tokens: 60, ignore_eos: true, seed };
        const reply = await post<{ choices: { finish_reason: string }[] }>(vllm, '/v1/completions', body);
        expect(reply.choices[0]?.finish_reason).toBe('length');
        finished += 1;
      }
    };
    const clients = Promise.all([11, 12].map(client));
    try {
      for (let version = 1; version <= VERSIONS; version += 1) {
        const shardBytes = version % 2 === 0 ? 100_000 : undefined;
        const { path } = await publish(models.directory(modelOf(version)), {
          directory,
          version,
          shardBytes,
        });
        await pushVersion(path, version, vllm);
        await prune(directory, { keep: 2, graceMs: 0 });
      }
    } finally {
      going = false;
      await clients;
    }
    expect(finished).toBeGreaterThan(0);
    expect(await scoreDistance(vllm, models, modelOf(VERSIONS))).toBeLessThan(SCORE_NOISE);
    expect((await readdir(directory)).sort()).toEqual(
      ['.weightcast', `step_${VERSIONS - 1}`, `step_${VERSIONS}`].sort(),
    );
  }, 1_800_000);

  test('a vLLM serves what a follower made of a chain of deltas', async () => {
    const directory = join(folder, 'deltas');
    const local = join(folder, 'local');
    const vllm = await serving();
    for (let version = 1; version <= 4; version += 1) {
      const { manifest } = await publish(models.directory(modelOf(version)), {
        ...{ directory, version, delta: true, anchorEvery: 10 },
        ...(version === 1 ? {} : { deltaBase: models.directory(modelOf(version - 1)) }),
      });
      expect(manifest.kind).toBe(version === 1 ? 'full' : 'delta');
      // The third is behind by one when the fourth is there: two deltas in a row.
      if (version === 3) continue;
      const steps = version === 4 ? '2' : '1';
      const followed = await weightcast(['follow', directory, '--into', local, '--max-versions', steps]);
      expect(followed.code, followed.stderr).toBe(0);
      await pushVersion(join(local, `step_${version}`), version, vllm);
    }
    expect(await scoreDistance(vllm, models, modelOf(4))).toBeLessThan(SCORE_NOISE);
  }, 600_000);
});
