/** Engines that are still starting, and engines of another model, as prime-rl's client table says what to do about them. */
import { once } from 'node:events';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { startReferencePrimeRl, writeTinyModel } from '../../src/testing/index.js';
import { MAIN, Spawned, weightcast } from './spawned.js';

vi.setConfig({ testTimeout: 120_000 });

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-ready-'));
  await writeTinyModel(join(folder, 'a'), { seed: 1 });
  await writeTinyModel(join(folder, 'b'), { seed: 2 });
});
afterAll(() => rm(folder, { recursive: true }));

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const serve = (port = 0) =>
  startReferencePrimeRl({ model: join(folder, 'a'), broadcast: 'filesystem', workersInEngine: true, port });

async function config(url: string, client: string, model = 'reference'): Promise<string> {
  const path = join(folder, `${Math.random()}.toml`);
  await writeFile(
    path,
    `[model]\nname = "${model}"\n[orchestrator.model.client]\nbase_url = "${url}/v1"\n${client}\n[weight_broadcast]\ntype = "filesystem"\n`,
  );
  return path;
}

test('orchestrate waits for servers that start after it, and says so', async () => {
  const port = await freePort();
  const broadcasts = join(folder, 'broadcasts');
  const file = await config(`http://127.0.0.1:${port}`, '');
  await using orchestrating = new Spawned([
    ...[MAIN, 'orchestrate', broadcasts, '--prime-rl-config', file, '--max-updates', '1'],
    ...['--interval', '0.05', '--state-dir', join(folder, 'state'), '--json'],
  ]);
  await orchestrating.err.seen(`waiting for http://127.0.0.1:${port} (`);
  await using server = await serve(port);
  const step = join(broadcasts, 'step_1');
  await cp(join(folder, 'b'), step, { recursive: true });
  await writeFile(join(step, 'STABLE'), '');
  expect(await orchestrating.ended).toMatchObject({ code: 0 });
  expect((await server.exchanges()).map(({ path }) => path)).toContain('/v1/models');
});

test('a wait for servers ends at its deadline with their names, and at Ctrl-C', async () => {
  const url = `http://127.0.0.1:${await freePort()}`;
  const push = [
    'push',
    join(folder, 'b'),
    '--prime-rl-config',
    await config(url, 'wait_for_ready_timeout = 0.5'),
  ];
  const late = await weightcast(push);
  expect(late).toMatchObject({ code: 1 });
  expect(late.err).toContain(`not healthy within 1 s: ${url}`);
  await using waiting = new Spawned([MAIN, 'orchestrate', folder, '-e', url]);
  await waiting.err.seen('waiting for');
  waiting.signal('SIGINT');
  expect(await waiting.ended).toMatchObject({ code: 130, signal: null });
});

test('servers of another model are refused before anybody is paused, unless the file skips that check', async () => {
  await using server = await serve();
  const push = async (client: string, model?: string) =>
    weightcast([
      ...['push', join(folder, 'b'), '--prime-rl-config', await config(server.url, client, model)],
      ...['--state-dir', join(folder, 'state')],
    ]);
  const refusal = `${server.url} does not serve the model another: it serves reference`;
  const other = await push('', 'another');
  expect(other.code).toBe(1);
  expect(other.err).toContain(refusal);
  const file = await config(server.url, '', 'another');
  const orchestrated = await weightcast(['orchestrate', folder, '--prime-rl-config', file]);
  expect(orchestrated.code).toBe(2);
  expect(orchestrated.err).toContain(refusal);
  expect((await server.exchanges()).some(({ path }) => path === '/pause')).toBe(false);
  expect(await push('')).toMatchObject({ code: 0 });
  expect(await push('skip_model_check = true', 'another')).toMatchObject({ code: 0 });
  const shown = await weightcast(['fleet', '-e', `prime-rl=${server.url}`, '--served-model', 'another']);
  expect(shown.code).toBe(1);
  expect(shown.out).toContain(refusal);
});
