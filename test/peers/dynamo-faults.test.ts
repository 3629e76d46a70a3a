/**
 * What goes wrong in a deployment of NVIDIA Dynamo, and what weightcast does about it: its own frontend, runtime and handlers over the engine of support/dynamo/engine.py.
 * What the real vLLM does below these handlers is in dynamo-vllm.test.ts.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest';
import { connectFleet, type FleetOptions } from '../../src/index.js';
import { errorOf } from '../engines/client.js';
import { failedReport } from '../update/support.js';
import { writeAdapter } from './support/adapter.js';
import { madeTensor, writeCheckpoint } from './support/checkpoint.js';
import { weightcast } from './support/command.js';
import { chatInFlight } from './support/dynamo/chat.js';
import { type Deployment, deploy, until, untilListed } from './support/dynamo/deployment.js';
import type { Frontend } from './support/dynamo/frontend.js';
import { filePlane } from './support/dynamo/plane.js';
import { engine, received } from './support/dynamo/worker.js';
import { freePort, type ProcessGroup } from './support/group.js';
import { lane } from './support/lane.js';
import { dynamoPackages } from './support/venv.js';

/** Tokens that take a second. */
const LONG = 100;
const TOKEN_MS = 10;
const NAMES = ['a', 'b', 'c'] as const;

interface Started {
  readonly url: string;
  readonly group: ProcessGroup;
}

await lane('dynamo 1.6.1, faults', dynamoPackages, (python) => {
  let deployment: Deployment;
  /** A frontend with one worker, which every test leaves serving. */
  let single: { readonly frontend: Frontend; readonly workers: readonly Started[] };
  const directory = (name: (typeof NAMES)[number]) => join(deployment.directory, name);

  /** A namespace of its own: a frontend and so many workers, each on a port that is known. */
  async function start(namespace: string, count: number, more: { readonly lora?: boolean } = {}) {
    const frontend = await deployment.frontend({ namespace });
    const workers: Started[] = [];
    for (let index = 0; index < count; index += 1) {
      const systemPort = String(await freePort('below 32768'));
      const group = await deployment.worker({ namespace, systemPort, tokenMs: TOKEN_MS, ...more });
      workers.push({ url: `http://127.0.0.1:${systemPort}`, group });
    }
    await untilListed(frontend, count);
    return { frontend, workers };
  }

  const found = (frontend: Frontend, options: Partial<FleetOptions> = {}) =>
    connectFleet({
      ...{ engines: [], discover: [`dynamo=${frontend.url},rl=${frontend.rlUrl}`], transport: 'filesystem' },
      stateDir: join(deployment.directory, 'state'),
      ...options,
    });

  const ask = async ({ url }: Started, route: string, body: object = {}) =>
    (await engine(url, route, body)).body;

  /** By what it says to an update without a path: a paused worker misses the path, the other the pause. */
  const isPaused = async (worker: Started) =>
    !/^Worker must be paused/.test(String((await ask(worker, 'update_weights_from_disk')).message));

  beforeAll(async () => {
    deployment = await deploy(python, await filePlane());
    for (const name of NAMES) {
      const tensor = madeTensor(`${name}.weight`, 'BF16', 'bfloat16', 2, [64, 32]);
      await writeCheckpoint(directory(name), [[{ ...tensor, name: 'model.weight' }]]);
    }
    single = await start('single', 1);
  });
  afterAll(() => deployment?.stop());
  beforeEach(() => {
    onTestFailed(() => void process.stderr.write(deployment.logs()));
  });

  test('while an update blocks, version, liveness and discovery answer; a resume waits for it, and is applied after its client has gone', async () => {
    const { frontend, workers } = single;
    const [worker] = workers as [Started];
    expect(await ask(worker, 'pause_generation', { mode: 'keep' })).toMatchObject({ status: 'ok' });
    await ask(worker, 'test/hold');
    const update = ask(worker, 'update_weights_from_disk', {
      model_path: directory('a'),
      weight_version: '1',
    });
    for (const route of ['pause_generation', 'resume_generation']) {
      await expect(engine(worker.url, route, {}, 1_000)).rejects.toThrow(/aborted|timeout/i);
    }
    expect(await ask(worker, 'get_weight_version')).toMatchObject({ status: 'ok', version: null });
    expect(await ask(worker, 'liveness_probe')).toEqual({ status: 'ok', alive: true });
    expect((await frontend.rlWorkers()).workers).toMatchObject([{ system_url: worker.url }]);
    expect((await fetch(`${worker.url}/health`)).status).toBe(200);

    await ask(worker, 'test/let-go');
    expect(await update).toMatchObject({ status: 'ok', version: '1' });
    // Nobody asks for it any more.
    await until(
      () => isPaused(worker),
      (paused) => !paused,
    );
    expect(await (await chatInFlight(frontend, { tokens: 2 })).answer).toEqual({
      reason: 'length',
      tokens: 2,
    });
  });

  test('a worker whose update blocks beyond the deadline is quarantined and stays paused; the next update makes all whole', async () => {
    const { frontend, workers } = await start('deadline', 2);
    const [blocked, other] = workers as [Started, Started];
    await using fleet = await found(frontend, { timeouts: { update: 2_000 } });
    await fleet.update(directory('a'), { version: 'a-1' });
    await ask(blocked, 'test/hold');
    const report = await failedReport(fleet.update(directory('b'), { version: 'b-1' }));
    expect(report.outcome).toBe('quarantined');
    const stateOf = ({ url }: Started) => report.engines.find((each) => each.url === url)?.state;
    expect([stateOf(blocked), stateOf(other)]).toEqual(['quarantined', 'serving-new']);
    expect(await ask(blocked, 'get_weight_version')).toMatchObject({ version: 'a-1' });
    await ask(blocked, 'test/let-go');
    // What was given up is applied all the same, and nobody has resumed it.
    await until(
      () => ask(blocked, 'get_weight_version'),
      ({ version }) => version === 'b-1',
    );
    expect(await isPaused(blocked)).toBe(true);

    expect(await fleet.update(directory('c'), { version: 'c-1' })).toMatchObject({ outcome: 'updated' });
    const [one, two] = await Promise.all(workers.map(({ url }) => received(url)));
    expect(one?.ranks).toEqual(two?.ranks);
    expect(await Promise.all(workers.map(isPaused))).toEqual([false, false]);
  });

  test.each(['keep', 'wait'] as const)(
    'a request that runs across an update that pauses by %s ends whole',
    async (pauseMode) => {
      const { frontend, workers } = single;
      await using fleet = await found(frontend, { pauseMode });
      const { answer } = await chatInFlight(frontend, { tokens: LONG });
      let ended = false;
      void answer.then(() => {
        ended = true;
      });
      expect(await fleet.update(directory('b'), { version: '1' })).toMatchObject({ outcome: 'updated' });
      // wait: it was over before anything was loaded; keep: it was frozen, and goes on with the new weights.
      if (pauseMode === 'wait') expect(ended).toBe(true);
      expect(await answer).toEqual({ reason: 'length', tokens: LONG });
      expect((await received((workers[0] as Started).url)).while_serving).toEqual([]);
    },
  );

  test('a request that a pause by abort cuts looks finished to its client, and is counted in the report', async () => {
    const { frontend } = single;
    await using fleet = await found(frontend, { pauseMode: 'abort' });
    const { answer } = await chatInFlight(frontend, { tokens: 1_000 });
    const report = await fleet.update(directory('b'), { version: '1' });
    expect(report.notes).toContainEqual(expect.stringContaining('1 request was running when the pause cut'));
    const { reason, tokens } = await answer;
    expect(reason).toBe('stop');
    expect(tokens).toBeLessThan(1_000);
  });

  test('where requests of an adapter run a pause by keep is refused: weightcast waits for them, and says so', async () => {
    const { frontend, workers } = await start('adapters', 1, { lora: true });
    const [worker] = workers as [Started];
    await using fleet = await found(frontend, { pauseMode: 'keep' });
    const adapter = join(deployment.directory, 'adapter');
    await writeAdapter(adapter, 0.2);
    const { servedAs } = await fleet.loadAdapter(adapter, { name: 'policy', version: '1' });
    await until(
      () => frontend.models(),
      (models) => models.includes(servedAs),
    );
    const { answer } = await chatInFlight(frontend, { model: servedAs, tokens: LONG });
    expect(await ask(worker, 'pause_generation', { mode: 'keep' })).toEqual({
      status: 'error',
      message: `Cannot pause generation in keep mode with active LoRA requests: ${servedAs}`,
    });
    const report = await fleet.update(directory('b'), { version: '1' });
    expect(report).toMatchObject({ outcome: 'updated' });
    expect(report.notes).toContainEqual(expect.stringMatching(/active LoRA requests: .*wait/));
    expect(await answer).toEqual({ reason: 'length', tokens: LONG });
  });

  test('after sleep and wake-up a worker serves while it says that it is paused: an update pauses it for real', async () => {
    const { frontend, workers } = single;
    const [worker] = workers as [Started];
    await using fleet = await found(frontend);
    await ask(worker, 'pause_generation', { mode: 'wait' });
    expect(await ask(worker, 'control/sleep', { level: 1 })).toMatchObject({ status: 'ok' });
    await until(
      () => frontend.models(),
      (models) => models.length === 0,
    );
    expect((await frontend.rlWorkers()).workers).toMatchObject([{ system_url: worker.url }]);
    expect(await ask(worker, 'control/wake_up')).toMatchObject({ status: 'ok' });
    await untilListed(frontend, 1);
    expect(await isPaused(worker)).toBe(true);
    expect(await (await chatInFlight(frontend, { tokens: 2 })).answer).toEqual({
      reason: 'length',
      tokens: 2,
    });

    expect(await fleet.update(directory('b'), { version: '1' })).toMatchObject({ outcome: 'updated' });
    expect((await received(worker.url)).while_serving).toEqual([]);
    expect(await isPaused(worker)).toBe(false);
  });

  test('a worker whose system port another has taken keeps all from being updated, and the error says what to set', async () => {
    const systemPort = String(await freePort('below 32768'));
    const frontend = await deployment.frontend({ namespace: 'clash' });
    for (let index = 0; index < 2; index += 1) await deployment.worker({ namespace: 'clash', systemPort });
    await untilListed(frontend, 2);
    const error = await errorOf(found(frontend));
    expect(error).toMatchObject({ code: 'WC_DISCOVERY_FAILED', phase: 'discovery' });
    expect(error.message).toContain('DYN_SYSTEM_PORT');
    const discover = ['--discover', `dynamo=${frontend.url},rl=${frontend.rlUrl}`];
    const pushed = await weightcast(['push', directory('a'), ...discover, '--transport', 'filesystem']);
    expect(pushed.code).not.toBe(0);
    expect(pushed.stderr).toContain('DYN_SYSTEM_PORT');
    expect(await isPaused({ url: `http://127.0.0.1:${systemPort}` } as Started)).toBe(false);
  });

  test('a worker that is killed while it loads is named, and the other serves the new version; the next update is told of it and goes on without it', async () => {
    const { frontend, workers } = await start('killed', 2);
    const [victim, other] = workers as [Started, Started];
    await ask(victim, 'test/hold');
    await using fleet = await found(frontend, {
      onEvent: (event) => {
        if (event.kind === 'phase' && event.phase === 'transfer') victim.group.signal('SIGKILL');
      },
    });
    const report = await failedReport(fleet.update(directory('b'), { version: 'b-1' }));
    const engineOf = ({ url }: Started) => report.engines.find((each) => each.url === url);
    expect(engineOf(other)).toMatchObject({ state: 'serving-new', weightVersion: 'b-1' });
    expect(engineOf(victim)?.state).not.toMatch(/^serving/);
    expect(report.error?.message).toContain(victim.url);

    // Its lease is not over yet: discovery has it with an error, or no more.
    const next = await fleet.update(directory('c'), { version: 'c-1' });
    expect(next.engines).toMatchObject([{ url: other.url, state: 'serving-new', weightVersion: 'c-1' }]);
    await untilListed(frontend, 1);
    const listed = await weightcast([
      'fleet',
      '--discover',
      `dynamo=${frontend.url},rl=${frontend.rlUrl}`,
      '--json',
    ]);
    expect(listed.stdout).toContain(other.url);
    expect(listed.stdout).not.toContain(victim.url);
  });
});
