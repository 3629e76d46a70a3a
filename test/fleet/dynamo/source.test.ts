import type { ServerResponse } from 'node:http';
import { afterAll, expect, test } from 'vitest';
import { createHttpClient } from '../../../src/engines/http.js';
import { WeightcastError } from '../../../src/errors.js';
import { type DynamoSourceOptions, dynamoSource } from '../../../src/fleet/dynamo/source.js';
import { type SettleOptions, settled } from '../../../src/fleet/settle.js';
import { errorOf, expectCode } from '../../engines/client.js';
import { type Received, type TestServer, withServer } from '../../engines/server.js';
import { listJson, recorded, workerJson } from './recorded.js';

const http = createHttpClient({ retry: { attempts: 1 } });
afterAll(() => http.close());

const quick = (changes: Partial<SettleOptions> = {}): SettleOptions => ({
  worldSize: null,
  timeoutMs: 5_000,
  intervalMs: 1,
  signal: new AbortController().signal,
  ...changes,
});

function sourceAt(urls: readonly string[], changes: Partial<DynamoSourceOptions> = {}) {
  return dynamoSource({
    http,
    frontends: urls.map((url) => ({ url, rlUrl: null, inferenceUrl: null })),
    headers: {},
    apiKey: null,
    ...changes,
  });
}

const local = (id: string, port: number, fields: object = {}) =>
  workerJson(id, { system_url: `http://127.0.0.1:${port}`, ...fields });

/** A listener that answers these one after another, the last one again and again. */
function answering(...answers: readonly (string | number)[]) {
  let at = 0;
  const next = () => answers[Math.min(at++, answers.length - 1)] ?? 500;
  return (use: (server: TestServer) => Promise<void>) =>
    withServer(({ path }, response) => {
      const answer = path === '/v1/rl/workers' ? next() : 404;
      response.statusCode = typeof answer === 'number' ? answer : 200;
      response.end(
        typeof answer === 'number' ? '{"error":"discovery_failed","message":"etcd is gone"}' : answer,
      );
    }, use);
}

test('a fleet is taken once two looks in a row have seen it whole', async () => {
  const [one, both] = [listJson(local('7', 1)), listJson(local('8', 2), local('7', 1))];
  await answering(
    one,
    both,
    one,
    both,
    both,
  )(async ({ url, received }) => {
    const { members } = await settled(sourceAt([url]), quick({ worldSize: 2 }));
    expect(members.map(({ target }) => target.url)).toEqual(['http://127.0.0.1:1', 'http://127.0.0.1:2']);
    expect(members[0]).toMatchObject({
      identity: 'curator/backend/7',
      target: { backend: 'dynamo', workers: 1 },
    });
    expect(members[0]?.target.routes).toEqual(['pause_generation', 'resume_generation']);
    expect(members[0]?.target.parameters).toMatchObject({
      instance_id: expect.stringMatching(/^\d+$/) as string,
    });
    expect(received).toHaveLength(5);
  });
});

test('what was known needs one look to be confirmed', async () => {
  await answering(listJson(local('7', 1)))(async ({ url, received }) => {
    const source = sourceAt([url]);
    const known = await settled(source, quick());
    await settled(source, quick({ known }));
    expect(received).toHaveLength(3);
  });
});

test('a worker that came back as another process is another member', async () => {
  await answering(
    listJson(local('7', 1)),
    listJson(local('7', 1)),
    listJson(local('9', 1)),
  )(async ({ url }) => {
    const source = sourceAt([url]);
    const known = await settled(source, quick());
    const now = await settled(source, quick({ known }));
    expect(now.members[0]?.identity).toBe('curator/backend/9');
  });
});

test('the credentials and headers of the engines go to the listener too', async () => {
  await answering(listJson(local('7', 1)))(async ({ url, received }) => {
    const source = sourceAt([url], { apiKey: 'secret', headers: { 'X-Team': 'rl' } });
    const { members } = await settled(source, quick());
    expect(received[0]?.headers).toMatchObject({ authorization: 'Bearer secret', 'x-team': 'rl' });
    expect(members[0]?.target).toMatchObject({ apiKey: 'secret', headers: { 'X-Team': 'rl' } });
  });
});

test('a base URL leads to the listener on its host, and is where models and inference are', async () => {
  await answering(listJson(local('7', 1)))(async (listener) => {
    const { text } = recorded('frontend, no workers');
    const answer = (_: Received, response: ServerResponse) => {
      response.statusCode = 404;
      response.end(text);
    };
    await withServer(answer, async (frontend) => {
      const rlPort = Number(new URL(listener.url).port);
      const { members } = await settled(sourceAt([`${frontend.url}/v1`], { rlPort }), quick());
      expect(members[0]?.target.inferenceUrl).toBe(frontend.url);
      // Found once, it is not looked for again.
      expect(frontend.received.map(({ path }) => path)).toEqual(['/v1/rl/workers']);
    });
  });
});

test('a named listener is asked where it is', async () => {
  await answering(listJson(local('7', 1)))(async ({ url }) => {
    const frontends = [{ url: 'http://127.0.0.1:9/v1', rlUrl: `${url}/v1/rl/workers`, inferenceUrl: null }];
    const { members } = await settled(sourceAt([], { frontends }), quick());
    expect(members[0]?.target.inferenceUrl).toBe('http://127.0.0.1:9');
  });
});

test('a frontend without a listener is told apart, with every name that could help', async () => {
  await answering(404)(async ({ url }) => {
    const error = await expectCode(settled(sourceAt([url], { rlPort: 9 }), quick()), 'WC_DISCOVERY_FAILED');
    for (const word of [
      'rl_base_url',
      'admin_base_url',
      'DYN_ENABLE_RL',
      `${url}/v1/rl/workers`,
      '404',
      ':9 is not listening',
    ])
      expect(error.message).toContain(word);
    expect(error.remedy).toContain('DYN_ENABLE_RL=1');
  });
});

test('a frontend that nobody answers for is an error with every name that could help', async () => {
  const error = await errorOf(settled(sourceAt(['http://127.0.0.1:9']), quick({ timeoutMs: 500 })));
  expect(error.message).toContain('127.0.0.1:9');
  for (const word of ['rl_base_url', 'admin_base_url', 'DYN_ENABLE_RL']) expect(error.remedy).toContain(word);
});

test('a listener that answered since is not given up for the times that it was missing before', async () => {
  const list = listJson(local('7', 1));
  await answering(
    404,
    404,
    list,
    404,
    404,
  )(async ({ url }) => {
    const frontends = [{ url: 'http://127.0.0.1:9', rlUrl: url, inferenceUrl: null }];
    const source = sourceAt([], { frontends });
    const lasting: unknown[] = [];
    const { signal } = new AbortController();
    for (let look = 0; look < 6; look += 1) {
      const error = await source.poll(signal).catch((reason: unknown) => reason);
      lasting.push(error instanceof WeightcastError ? error.details.lasting : null);
    }
    expect(lasting).toEqual([false, false, null, false, false, true]);
  });
});

test('workers that are too few at the deadline are named', async () => {
  await answering(listJson(local('7', 1)))(async ({ url }) => {
    const waiting = settled(sourceAt([url]), quick({ worldSize: 2, timeoutMs: 1_000 }));
    const error = await expectCode(waiting, 'WC_DISCOVERY_FAILED');
    expect(error.message).toContain('not 2 GPU workers within 1 s');
    expect(error.message).toContain('1 engine with 1 GPU workers (http://127.0.0.1:1)');
  });
});

test('nobody listed at the deadline leads to the namespace', async () => {
  await answering(listJson())(async ({ url }) => {
    const error = await errorOf(settled(sourceAt([url]), quick({ timeoutMs: 1_000 })));
    expect(error.message).toContain('0 engines');
    expect(error.remedy).toContain('DYN_NAMESPACE');
  });
});

test('a listener that fails now and then is asked again', async () => {
  const list = listJson(local('7', 1));
  await answering(
    500,
    list,
    500,
    list,
    list,
  )(async ({ url, received }) => {
    await settled(sourceAt([url]), quick());
    expect(received).toHaveLength(5);
  });
});

test('one that goes on failing is quoted at the deadline', async () => {
  await answering(500)(async ({ url }) => {
    const error = await expectCode(
      settled(sourceAt([url]), quick({ timeoutMs: 1_000 })),
      'WC_DISCOVERY_FAILED',
    );
    expect(error.message).toContain('etcd is gone');
  });
});

test('a listener that refuses the key, or speaks another protocol, is not asked again', async () => {
  await answering(401)(async ({ url, received }) => {
    await expectCode(settled(sourceAt([url]), quick()), 'WC_ENGINE_UNAUTHORIZED');
    expect(received).toHaveLength(1);
  });
  await answering('{"protocol_version":2,"workers":[]}')(async ({ url }) => {
    await expectCode(settled(sourceAt([url]), quick()), 'WC_ENGINE_PROTOCOL');
  });
});

test('frontends that disagree are waited for, and named at the deadline', async () => {
  const [one, both] = [listJson(local('7', 1)), listJson(local('7', 1), local('8', 2))];
  await answering(
    one,
    both,
    both,
  )(async (a) => {
    await answering(both)(async (b) => {
      const { members } = await settled(sourceAt([a.url, b.url]), quick());
      expect(members).toHaveLength(2);
    });
  });
  await answering(one)(async (a) => {
    await answering(both)(async (b) => {
      const error = await errorOf(settled(sourceAt([a.url, b.url]), quick({ timeoutMs: 1_000 })));
      for (const word of [a.url, b.url, 'curator/backend/8']) expect(error.message).toContain(word);
    });
  });
});

test('a worker that serves without a system port keeps the fleet from being updated', async () => {
  const text = recorded('fixed port x2').text;
  await answering(text)(async ({ url }) => {
    const error = await expectCode(settled(sourceAt([url]), quick()), 'WC_DISCOVERY_FAILED');
    expect(error.message).toContain("curator/stub/2866882400868227848 serves and can't be updated");
  });
});

test('a worker that is gone does not', async () => {
  const dead =
    '{"instance_id":9,"namespace":"curator","component":"backend","routes":[],"error":"Unavailable: TCP"}';
  await answering(listJson(local('7', 1), dead))(async ({ url }) => {
    const { members, unusable } = await settled(sourceAt([url]), quick());
    expect(members).toHaveLength(1);
    expect(unusable).toEqual([{ what: 'curator/backend/9', why: 'Unavailable: TCP', mayServe: false }]);
  });
});

test('a checkpoint is for one model', async () => {
  await answering(listJson(local('7', 1), local('8', 2, { model: 'other' })))(async ({ url }) => {
    const error = await expectCode(settled(sourceAt([url]), quick()), 'WC_DISCOVERY_FAILED');
    expect(error.message).toContain('tiny, other');
    const { members } = await settled(sourceAt([url], { model: 'other' }), quick());
    expect(members.map(({ identity }) => identity)).toEqual(['curator/backend/8']);
  });
});

test('a wait ends with its signal', async () => {
  await answering(listJson())(async ({ url }) => {
    const stop = new AbortController();
    const waiting = settled(sourceAt([url]), quick({ signal: stop.signal }));
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
  });
});
