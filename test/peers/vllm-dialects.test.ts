/** One real vLLM of each older dialect takes our pushes; transformers says what each must compute afterwards. */
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest';
import { connectFleet } from '../../src/index.js';
import { push } from './support/command.js';
import { isPaused, SCORE_NOISE, scoreDistance } from './support/judge.js';
import { lane } from './support/lane.js';
import { type ModelName, type Models, makeModels } from './support/models.js';
import { preloadOf } from './support/preload.js';
import { tail } from './support/process.js';
import { startVllm, type VllmServer } from './support/server.js';
import { vllmPackages } from './support/venv.js';

const NCCL = ['--transport', 'nccl', '--emulate'];
const PACKED = ['--packed-buffer-bytes', '100000'];

/** What each version is the witness of. */
const DIALECTS = [
  ['0.30.0', 'three steps, joined by the unique id in init'],
  ['0.28.0', 'three steps, packing told at init, joined by the store'],
  ['0.27.1', 'three steps, packing told at each update'],
  ['0.24.0', 'three steps, start body, packing told at each update'],
  ['0.18.1', 'one shot'],
] as const;

for (const [version, what] of DIALECTS) {
  await lane(`vllm ${version}: ${what}`, vllmPackages(version), (python) => {
    let models: Models;
    let server: VllmServer;

    async function expectServes(name: ModelName): Promise<void> {
      expect(await isPaused(server)).toBe(false);
      expect(await scoreDistance(server, models, name)).toBeLessThan(SCORE_NOISE);
    }

    beforeAll(async () => {
      models = await makeModels(python);
      const env = version === '0.18.1' ? { LD_PRELOAD: await preloadOf(python) } : {};
      server = await startVllm({ python, model: models.directory('a'), transfer: 'nccl', env });
    }, 900_000);
    afterAll(() => server?.stop());
    beforeEach(() => {
      onTestFailed(() => void process.stderr.write(`${tail(server.log(), 30)}\n`));
    });

    test.each([
      ['packed', 'b', PACKED],
      ['per tensor, from a new process', 'c', ['--no-packed']],
      ['packed again, from a third process', 'a', PACKED],
    ] as const)('a push is served: %s', async (_, name, format) => {
      const pushed = await push(models.directory(name), [server], [...NCCL, ...format]);
      expect(pushed.report, pushed.stderr).toMatchObject({
        outcome: 'updated',
        error: null,
        engines: [{ state: 'serving-new', engineVersion: version, transport: 'nccl' }],
      });
      expect(pushed.code).toBe(0);
      await expectServes(name);
    });

    test('three updates in one session, over one rendezvous', async () => {
      await using fleet = await connectFleet({
        engines: [server.url],
        emulate: true,
        packedBufferBytes: 100_000,
      });
      for (const [index, name] of (['b', 'c', 'b'] as const).entries()) {
        const report = await fleet.update(models.directory(name));
        expect(report).toMatchObject({ outcome: 'updated', nccl: { reused: index > 0 } });
        await expectServes(name);
      }
    });

    test('a push by files is served', async () => {
      const pushed = await push(models.directory('a'), [server], ['--transport', 'filesystem']);
      expect(pushed.report, pushed.stderr).toMatchObject({ outcome: 'updated' });
      expect(pushed.code).toBe(0);
      await expectServes('a');
    });
  });
}
