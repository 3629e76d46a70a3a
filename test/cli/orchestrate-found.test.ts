/** `weightcast orchestrate` over engines that are found, as a user runs it. */
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { openPrimeRlSender } from '../../src/operations/index.js';
import { type ReferenceDynamoWorker, startReferencePrimeRl } from '../../src/testing/index.js';
import { withDynamo } from '../update/dynamo-bench.js';
import { digestsOf } from '../update/support.js';
import { MAIN, Spawned } from './spawned.js';

vi.setConfig({ testTimeout: 180_000 });

/** Writes a version as a trainer does: its marker comes last. */
async function announce(broadcasts: string, version: number, from: string): Promise<void> {
  const folder = join(broadcasts, `step_${version}`);
  await cp(from, folder, { recursive: true });
  await writeFile(join(folder, 'STABLE'), '');
}

const linesOf = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as object);

test('files of a trainer come to the workers that Dynamo lists, and to one that is listed later', async () => {
  await withDynamo({ engines: 1 }, async ({ dynamo, workers, b, c }) => {
    const broadcasts = join(b, '..', 'broadcasts');
    await announce(broadcasts, 1, b);
    await using orchestrating = new Spawned([
      ...[MAIN, 'orchestrate', broadcasts, '--discover', `dynamo=${dynamo.url},rl=${dynamo.discoveryUrl}`],
      ...['--interval', '0.05', '--sync-interval', '0.2', '--state-dir', join(b, '..', 'state'), '--json'],
    ]);
    await orchestrating.out.seen('"version":1');
    const late = await dynamo.add();
    await vi.waitUntil(async () => (await late.state()).version === 'step_1', { timeout: 60_000 });
    await announce(broadcasts, 2, c);
    await orchestrating.out.seen('"version":2');
    const [first] = workers as [ReferenceDynamoWorker];
    for (const worker of [first, late])
      expect(await worker.state()).toMatchObject({ paused: false, version: 'step_2' });
    expect(await digestsOf(late.engine)).toEqual(await digestsOf(first.engine));
    orchestrating.signal('SIGINT');
    const { code, out } = await orchestrating.ended;
    expect(code).toBe(0);
    expect(linesOf(out)).toMatchObject([{ version: 1, adapters: {} }, { version: 2 }]);
  });
});

test('a prime-rl file with an elastic pool is enough, and a version that fails is told by the line and the exit code', async () => {
  await withDynamo({ engines: 1 }, async ({ a, b }) => {
    await using server = await startReferencePrimeRl({
      ...{ model: a, broadcast: 'filesystem', workersInEngine: true },
    });
    const [broadcasts, config] = [join(b, '..', 'broadcasts'), join(b, '..', 'rl.toml')];
    const { port } = new URL(server.url);
    await writeFile(
      config,
      `[client.elastic]\nhostname = "127.0.0.1"\nport = ${port}\nsync_interval = 0.2\n[weight_broadcast]\ntype = "filesystem"\n`,
    );
    await announce(broadcasts, 1, b);
    const run = () =>
      new Spawned([
        ...[MAIN, 'orchestrate', broadcasts, '--prime-rl-config', config, '--interval', '0.05'],
        ...['--max-updates', '1', '--state-dir', join(b, '..', 'state'), '--json'],
      ]);
    await using served = run();
    expect(await served.ended).toMatchObject({ code: 0 });
    expect(linesOf((await served.ended).out)).toMatchObject([{ version: 1 }]);

    await writeFile(join(broadcasts, 'step_1', 'model.safetensors'), 'no weights');
    await using failed = run();
    expect(await failed.ended).toMatchObject({ code: 1 });
    expect(linesOf((await failed.ended).out)).toMatchObject([{ version: 1, error: { phase: 'preflight' } }]);
  });
});

test('a trainer’s group is joined by those who are found; when one has left nobody is paused, and the command says who', async () => {
  await withDynamo({ engines: 2, workerExtension: 'prime-rl' }, async ({ dynamo, workers, b, c }) => {
    const broadcasts = join(b, '..', 'broadcasts');
    const discover = `dynamo=${dynamo.url},rl=${dynamo.discoveryUrl},rpc=prime-rl`;
    let orchestrating: Spawned | null = null;
    const sender = await openPrimeRlSender({
      ...{ broadcasts, inferenceWorldSize: 2, port: 0, emulate: true, pollMs: 5 },
      ...{ packedBufferBytes: 50_000, joinTimeoutMs: 120_000, generation: 'stable' },
      onListening: (port) => {
        orchestrating = new Spawned([
          ...[MAIN, 'orchestrate', broadcasts, '--discover', discover, '--trainer', `127.0.0.1:${port}`],
          ...['--inference-world-size', '2', '--interval', '0.05', '--timeout-discovery', '20'],
          ...['--state-dir', join(b, '..', 'state'), '--json'],
        ]);
      },
    });
    try {
      await sender.send(b, 1);
      const [stays, goes] = workers as [ReferenceDynamoWorker, ReferenceDynamoWorker];
      await (orchestrating as Spawned | null)?.out.seen('"version":1');
      expect(await digestsOf(goes.engine)).toEqual(await digestsOf(stays.engine));
      dynamo.expire(goes);
      // Nobody answers it: the orchestrator ends instead.
      const gone = new AbortController();
      const sending = sender.send(c, 2, { signal: gone.signal }).catch(() => 'taken back');
      const { code, out, err } = (await (orchestrating as Spawned | null)?.ended) ?? {};
      gone.abort();
      expect(await sending).toBe('taken back');
      expect(code, err).toBe(1);
      expect(out).toContain('whose ranks cannot change');
      expect(out).toContain(String(goes.systemUrl));
      for (const worker of workers)
        expect(await worker.state()).toMatchObject({ paused: false, version: 'step_1' });
    } finally {
      await sender.close();
      await (orchestrating as Spawned | null)?.[Symbol.asyncDispose]();
    }
  });
});
