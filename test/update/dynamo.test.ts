/** Updates of Dynamo workers, and what weightcast does about their behaviour (contracts/dynamo.md, "Behaviour that a bridge must survive"). */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { ReferenceDynamoWorker } from '../../src/testing/index.js';
import type { UpdateEvent } from '../../src/update/types.js';
import { chat, engineOf, engineRoute, withDynamo } from './dynamo-bench.js';
import { digestsOf, failedReport } from './support.js';

const versionOf = async (worker: ReferenceDynamoWorker) => (await worker.state()).version;
const routesAsked = async (worker: ReferenceDynamoWorker) =>
  (await worker.engine.exchanges())
    .filter(({ method, path }) => method === 'POST' && path.startsWith('/engine/'))
    .map(({ path, requestBody }) => [path.slice('/engine/'.length), JSON.parse(requestBody)] as const);
const rpcs = async (worker: ReferenceDynamoWorker) =>
  (await routesAsked(worker)).flatMap(([, body]) => (body.engine_rpc === undefined ? [] : [body.engine_rpc]));

it('moves workers by NCCL twice with one group, and reads the tag of each update back', async () => {
  await withDynamo({ engines: 2, workers: 1 }, async ({ connect, workers, b, c }) => {
    const session = await connect();
    const report = await session.update(b, { version: '7' });
    expect(report).toMatchObject({ outcome: 'updated', transport: 'nccl', version: '7' });
    expect(report.engines.map(({ weightVersion, backend }) => [weightVersion, backend])).toEqual([
      ['7', 'dynamo'],
      ['7', 'dynamo'],
    ]);
    const proofs = report.engines.map(({ proof }) => [proof?.method, proof?.proved]);
    expect(proofs).toEqual([
      ['fingerprint', 1],
      ['fingerprint', 1],
    ]);
    const next = await session.update(c, { version: '8' });
    expect(next).toMatchObject({ outcome: 'updated', nccl: { reused: true } });
    const [first, second] = workers as [ReferenceDynamoWorker, ReferenceDynamoWorker];
    expect(await Promise.all(workers.map(versionOf))).toEqual(['8', '8']);
    expect(await digestsOf(first.engine)).toEqual(await digestsOf(second.engine));
    const round = ['start_weight_update', 'update_weights', 'finish_weight_update'];
    expect(await rpcs(first)).toEqual(['init_weight_transfer_engine', ...round, ...round]);
  });
});

it('moves workers of several ranks, and one tensor a broadcast', async () => {
  await withDynamo({ engines: [{ workers: 2 }, { workers: 1 }] }, async ({ dynamo, connect, workers, b }) => {
    const [two, one] = workers as [ReferenceDynamoWorker, ReferenceDynamoWorker];
    const engines = [`${engineOf(two, dynamo)},workers=2`, `${engineOf(one, dynamo)},workers=1`];
    const session = await connect({ engines, packed: false });
    const report = await session.update(b, { version: 'x' });
    expect(report).toMatchObject({ outcome: 'updated', nccl: { worldSize: 4 } });
  });
});

it('lets workers load files, with the tag, and the same bytes as by NCCL', async () => {
  await withDynamo({ engines: 2 }, async ({ connect, workers, b }) => {
    const [first, second] = workers as [ReferenceDynamoWorker, ReferenceDynamoWorker];
    const byFiles = await connect({ transport: 'filesystem' });
    const report = await byFiles.update(b, { version: '9' });
    expect(report).toMatchObject({ outcome: 'updated', transport: 'filesystem' });
    expect(report.engines.map(({ weightVersion }) => weightVersion)).toEqual(['9', '9']);
    const loaded = await digestsOf(first.engine);
    const byNccl = await connect();
    await byNccl.update(b, { version: '10' });
    expect(await digestsOf(second.engine)).toEqual(loaded);
    const disk = (await routesAsked(first)).find(
      ([route, body]) => route === 'update_weights_from_disk' && body.model_path,
    );
    expect(disk?.[1]).toEqual({ model_path: b, weight_version: '9', engine_rpc: 'reload_weights' });
  });
});

it('serves adapters under versioned names, and unloads the one before', async () => {
  await withDynamo({}, async ({ connect, workers, a, b }) => {
    for (const directory of [a, b]) {
      await writeFile(join(directory, 'adapter_config.json'), '{}');
      await writeFile(join(directory, 'adapter_model.safetensors'), '');
    }
    const session = await connect();
    const one = await session.loadAdapter(a, { name: 'policy', version: '1' });
    const two = await session.loadAdapter(b, { name: 'policy', version: '2' });
    expect(one.servedAs).not.toBe(two.servedAs);
    const [worker] = workers as [ReferenceDynamoWorker];
    const listed = (await (await fetch(`${worker.systemUrl}/v1/loras`)).json()) as { loras: object };
    expect(Object.keys(listed.loras)).toEqual([two.servedAs]);
  });
});

it('says what a dropped connection means: one that never joins ends every worker, by its watchdog', async () => {
  const engines = [{}, { faults: { join: { action: 'stall' as const } } }];
  await withDynamo({ engines, initTimeoutMs: 300 }, async ({ connect, workers, b }) => {
    const session = await connect();
    const report = await failedReport(session.update(b, { version: '7' }));
    expect(report.error).toMatchObject({ code: 'WC_ENGINE_UNREACHABLE', phase: 'rendezvous' });
    expect(report.error?.remedy).toContain('DYN_RL_INIT_WEIGHTS_TIMEOUT_S');
    const exits = await Promise.all(workers.map(({ engine }) => engine.exited));
    expect(exits.map(({ code }) => code)).toEqual([1, 1]);
  });
});

it('lets nobody serve the old version beside the new one when a receive fails, and heals from files where that is allowed', async () => {
  const faults = { receive: { afterBroadcasts: 2, action: 'raise' as const } };
  await withDynamo({ engines: [{}, { faults }], layers: 60 }, async ({ connect, workers, b }) => {
    const strict = await connect();
    const report = await failedReport(strict.update(b, { version: '7' }));
    expect(report.outcome).toBe('quarantined');
    const states = await Promise.all(workers.map((worker) => worker.state()));
    for (const { paused, version } of states) expect(paused || version === '7').toBe(true);
    expect(states[1]?.paused).toBe(true);
    await strict.close();
    const healing = await connect({ fallback: 'filesystem' });
    const healed = await healing.update(b, { version: '7' });
    expect(healed.outcome).toBe('updated');
    expect(healed.engines[1]).toMatchObject({ state: 'serving-new', transport: 'filesystem' });
    expect(await Promise.all(workers.map(versionOf))).toEqual(['7', '7']);
  });
});

it('never leaves a worker serving that a refused update left open: the next request would kill it', async () => {
  const faults = { receive: { afterBroadcasts: 0, action: 'raise' as const } };
  await withDynamo({ engines: [{ faults }] }, async ({ dynamo, connect, workers, b }) => {
    const [worker] = workers as [ReferenceDynamoWorker];
    const session = await connect();
    const report = await failedReport(session.update(b, { version: '7' }));
    expect(report.error?.message).toContain('injected fault');
    const { broken, dead } = await worker.engine.state();
    expect(dead).toBe(false);
    // Restored by an empty round when nothing was sent before the refusal came; else it waits for a load from disk.
    if (report.engines[0]?.state === 'serving-old') {
      expect(broken).toBe(false);
      expect((await chat(dynamo)).status).toBe(200);
    } else {
      expect(await worker.state()).toMatchObject({ paused: true });
    }
    await worker.engine.setFaults({});
    expect((await session.update(b, { version: '8' })).outcome).toBe('updated');
    expect((await chat(dynamo)).status).toBe(200);
  });
});

it('takes a 200 with an error for the failure that it is; a good load afterwards heals', async () => {
  const refuse =
    "Call to collective_rpc method failed: Worker failed with error 'Repo id must use alphanumeric chars'";
  const routeFaults = { routes: { update_weights_from_disk: { refuse, matching: 'model_path', times: 1 } } };
  await withDynamo({ engines: [{ routeFaults }, {}] }, async ({ connect, workers, b }) => {
    const session = await connect({ transport: 'filesystem' });
    const report = await failedReport(session.update(b, { version: '7' }));
    expect(report.engines[0]).toMatchObject({ state: 'quarantined' });
    expect(report.engines[0]?.error?.message).toContain('Repo id must use alphanumeric chars');
    expect((await workers[0]?.state())?.paused).toBe(true);
    expect((await session.update(b, { version: '8' })).outcome).toBe('updated');
    expect(await Promise.all(workers.map(versionOf))).toEqual(['8', '8']);
  });
});

it('does not believe a tag that was left out: it is always sent, and what the worker says afterwards is reported', async () => {
  await withDynamo({}, async ({ connect, workers, b }) => {
    const session = await connect();
    const report = await session.update(b);
    expect(report.engines[0]?.weightVersion).not.toBe('initial');
    // It has no digests to ask for.
    expect(report.engines[0]?.proof?.note).toBe(
      'one engine alone has nobody to be compared with, and it reports no digests',
    );
    const [worker] = workers as [ReferenceDynamoWorker];
    expect(await versionOf(worker)).toBe(report.engines[0]?.weightVersion);
    await engineRoute(worker, 'set_weight_version', { weight_version: 12 });
    const next = await session.update(b, { version: '13' });
    expect(next.engines[0]?.weightVersion).toBe('13');
  });
});

it('never waits for a worker that hangs up on an update: it is quarantined, whatever it did', async () => {
  await withDynamo({}, async ({ connect, workers, b }) => {
    const [worker] = workers as [ReferenceDynamoWorker];
    const session = await connect();
    await worker.setFaults({
      routes: { update_weights_from_distributed: { drop: true, matching: 'update_info' } },
    });
    const report = await failedReport(session.update(b, { version: '7' }));
    expect(report.engines[0]?.state).toBe('quarantined');
    expect(await rpcs(worker)).not.toContain('finish_weight_update');
    expect((await worker.state()).paused).toBe(true);
  });
});

it('pauses a worker for real whose flag says that it is paused while it serves: pause, sleep, wake_up', async () => {
  await withDynamo({}, async ({ dynamo, connect, workers, b }) => {
    const [worker] = workers as [ReferenceDynamoWorker];
    await engineRoute(worker, 'pause_generation', { mode: 'wait' });
    await engineRoute(worker, 'control/sleep', { level: 1 });
    await engineRoute(worker, 'control/wake_up');
    expect(await worker.state()).toMatchObject({ paused: true, asleep: false });
    expect((await worker.engine.state()).paused).toBeNull();
    expect((await chat(dynamo)).status).toBe(200);
    const session = await connect();
    await session.update(b, { version: '7' });
    // Its own pause came before the update, though the flag stood.
    const asked = (await routesAsked(worker)).map(([route, body]) => body.engine_rpc ?? route);
    expect(asked.lastIndexOf('pause_generation')).toBeLessThan(asked.indexOf('start_weight_update'));
    expect(asked.lastIndexOf('pause_generation')).toBeGreaterThan(asked.indexOf('control/wake_up'));
    expect(await worker.state()).toMatchObject({ paused: false, version: '7' });
  });
});

it('tells who sends requests when to stop and when to go on: no request of theirs meets a paused worker', async () => {
  await withDynamo({ engines: 2, tokenMs: 1 }, async ({ dynamo, connect, b }) => {
    let gate = Promise.resolve();
    let open: () => void = () => undefined;
    const waits: number[] = [];
    const onEvent = (event: UpdateEvent) => {
      if (event.kind !== 'phase' || event.phase !== 'pause') return;
      gate = new Promise((resolve) => {
        open = resolve;
      });
    };
    const session = await connect({ onEvent });
    const update = session.update(b, { version: '7' }).finally(() => open());
    let running = true;
    const sender = (async () => {
      while (running) {
        await gate;
        const began = performance.now();
        const answer = await chat(dynamo);
        waits.push(performance.now() - began);
        expect(answer).toMatchObject({ status: 200, reason: 'length' });
      }
    })();
    expect((await update).outcome).toBe('updated');
    running = false;
    await sender;
    expect(waits.length).toBeGreaterThan(0);
  });
});

it('leaves requests that meet a paused worker waiting, and they are answered after the resume', async () => {
  await withDynamo({}, async ({ dynamo, connect, workers, b }) => {
    const [worker] = workers as [ReferenceDynamoWorker];
    await engineRoute(worker, 'pause_generation', { mode: 'keep' });
    const waiting = chat(dynamo);
    await expect
      .poll(async () =>
        (await (await fetch(`${worker.systemUrl}/metrics`)).text()).match(/inflight_requests\{.*\} 1$/m),
      )
      .not.toBeNull();
    expect((await fetch(`${worker.systemUrl}/health`)).status).toBe(200);
    const session = await connect();
    await session.update(b, { version: '7' });
    expect(await waiting).toMatchObject({ status: 200, reason: 'length' });
  });
});
