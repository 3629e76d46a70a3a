/** `weightcast fleet` and pushes to fleets that are found, as a user runs them. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mixedVersions } from '../../src/cli/fleet.js';
import { simulateFleet, writeTinyModel } from '../../src/testing/index.js';
import { withServer } from '../engines/server.js';
import { listJson, recorded, workerJson } from '../fleet/dynamo/recorded.js';
import { MAIN, Spawned, weightcast } from './spawned.js';

interface Shown {
  readonly engines: readonly {
    readonly url: string;
    readonly state: string;
    readonly identity: string | null;
  }[];
  readonly unusable: readonly { readonly what: string; readonly why: string }[];
  readonly readyUrls: readonly string[];
  readonly metrics: Readonly<Record<string, number>>;
}

test('engines behind a name are shown, watched, and pushed to', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'weightcast-test-'));
  try {
    const step = join(folder, 'step_1');
    await writeTinyModel(step, { seed: 2 });
    await using fleet = await simulateFleet({ engines: 2 });
    const host = new URL(fleet.addresses[0] as string).host;
    const elastic = ['--elastic', host];

    const shown = await weightcast(['fleet', ...elastic, '--json']);
    expect(shown.code, shown.err).toBe(0);
    const facts = JSON.parse(shown.out) as Shown;
    expect(facts.engines).toMatchObject([{ url: `http://${host}`, state: 'ready' }]);
    expect(facts.readyUrls).toEqual([`http://${host}`]);
    expect(facts.metrics).toMatchObject({ 'elastic/num_servers': 1, 'elastic/num_ready_servers': 1 });

    const pushed = await weightcast([
      ...['push', step, ...elastic, '-t', 'filesystem', '--weight-version', '1', '--json'],
      ...['--state-dir', join(folder, 'state')],
    ]);
    expect(pushed.code, pushed.err).toBe(0);
    expect(JSON.parse(pushed.out)).toMatchObject({
      outcome: 'updated',
      engines: [{ url: `http://${host}` }],
    });

    // The other engine is as it was started.
    const mixed = await weightcast(['fleet', ...elastic, '-e', fleet.addresses[1] as string]);
    expect(mixed.out).toContain('2 of 2 engines ready');
    expect(mixed.out).toMatch(/trouble .*different weight versions: .*1 \(http/);
    expect(mixed.code).toBe(1);

    await using watching = new Spawned([MAIN, 'fleet', ...elastic, '--watch', '--interval', '0.2']);
    await watching.out.seen('1 of 1 engines ready');
    await watching.out.seen('version 1');
    await fleet.engines[0]?.kill();
    await watching.out.seen('unhealthy');
    watching.signal('SIGINT');
    expect((await watching.ended).code).toBe(0);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 240_000);

test('what a Dynamo frontend lists is shown with its whole ids, and what cannot be used with the reason', async () => {
  const { text } = recorded('killed -9');
  await withServer(
    (_, response) => void response.end(text),
    async ({ url }) => {
      const { code, out } = await weightcast([
        'fleet',
        '--discover',
        `dynamo=${url}`,
        '--json',
        '--timeout-probe',
        '2',
      ]);
      const { engines, unusable } = JSON.parse(out) as Shown;
      expect(code).toBe(1);
      // Nobody listens at the recorded ports.
      expect(engines.map(({ identity, state }) => [identity, state])).toContainEqual([
        'curator/stub/12133735542955933045',
        'discovering',
      ]);
      expect(unusable.map(({ what }) => what)).toContain('curator/stub/1568403898972990830');
    },
  );
}, 120_000);

test('a push to a deployment that is not whole says what was seen and what to do', async () => {
  const list = listJson(workerJson('7', { system_url: 'http://127.0.0.1:9' }));
  await withServer(
    (_, response) => void response.end(list),
    async ({ url }) => {
      const flags = ['--discover', `dynamo=${url},world_size=2`, '--timeout-discovery', '1'];
      const { code, err } = await weightcast(['push', '/nowhere', ...flags]);
      expect(code).toBe(1);
      for (const word of [
        'not 2 GPU workers within 1 s',
        'http://127.0.0.1:9',
        'DYN_ENABLE_RL',
        'rl_base_url',
        'admin_base_url',
      ])
        expect(err).toContain(word);
    },
  );
}, 120_000);

test.each([
  [['1', '1'], null],
  // An old vLLM has no tag.
  [['1', null], null],
  [['1', '2', '1'], '1 (http://0), 2 (http://1);'],
  [['1', '2', '3', '4', '5', '6'], '4 (http://3) and 2 more'],
])('weight versions %j are told apart', (versions, text) => {
  const said = mixedVersions(
    versions.map((weightVersion, index) => ({ url: `http://${index}`, weightVersion })),
  );
  if (text === null) expect(said).toBeNull();
  else expect(said).toContain(text);
});

test('wrong words after --discover and --elastic are wrong usage', async () => {
  expect((await weightcast(['fleet', '--elastic', 'engines'])).code).toBe(2);
  const { code, err } = await weightcast(['push', '/x', '--discover', 'http://fe:8000']);
  expect([code, err.includes('dynamo=URL')]).toEqual([2, true]);
}, 120_000);
