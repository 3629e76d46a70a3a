/** A whole reference Dynamo: what discovery and the frontend say of its workers. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseBigJson } from '../../../src/engines/big-json.js';
import { type ReferenceDynamo, startReferenceDynamo, writeTinyModel } from '../../../src/testing/index.js';

let folder: string;
let dynamo: ReferenceDynamo;
const ENGINES = [
  { instanceId: 18276480593984381387n },
  { instanceId: 889013574522070843n, systemPortTaken: true },
  { instanceId: 18276480593984381388n },
];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-deployment-'));
  await writeTinyModel(folder);
  dynamo = await startReferenceDynamo({ model: folder, workersInEngine: true, engines: ENGINES });
});

afterAll(async () => {
  await dynamo?.close();
  await rm(folder, { recursive: true, force: true });
});

interface Listed {
  readonly protocol_version: number;
  readonly workers: readonly Readonly<Record<string, unknown>>[];
}

const listed = async () =>
  parseBigJson(await (await fetch(`${dynamo.discoveryUrl}/v1/rl/workers`)).text()) as Listed;
const frontend = async (path: string, body?: object) => {
  const response = await fetch(
    dynamo.url + path,
    body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) },
  );
  const text = await response.text();
  return {
    status: response.status,
    body: text === '' ? null : (parseBigJson(text) as Record<string, unknown>),
  };
};

it('lists workers by their whole ids, one without a system URL, and the dead with an error', async () => {
  const { protocol_version: version, workers } = await listed();
  expect(version).toBe(1);
  expect(workers.map(({ instance_id: id }) => id)).toEqual([
    889013574522070843n,
    18276480593984381387n,
    18276480593984381388n,
  ]);
  expect(workers[0]).not.toHaveProperty('system_url');
  expect(workers[1]).toMatchObject({
    system_url: dynamo.workers[0]?.systemUrl,
    world_size: 1,
    endpoint: 'rl',
  });
  expect(workers[1]?.routes).toContain('update_weights_from_distributed');
  await dynamo.workers[2]?.engine.kill();
  const dead = (await listed()).workers[2];
  expect(dead).toMatchObject({
    routes: [],
    error: expect.stringMatching(/^Unavailable: TCP connection to .* failed$/),
  });
  expect(dead).not.toHaveProperty('system_url');
  dynamo.expire(dynamo.workers[2] as (typeof dynamo.workers)[number]);
  expect((await listed()).workers).toHaveLength(2);
});

it('answers chat from the worker that is named, and scores its prompt', async () => {
  const nvext = { token_data: [5, 6, 7], extra_fields: ['worker_id', 'prompt_logprobs'] };
  const ask = {
    model: 'reference',
    messages: [{ role: 'user', content: '.' }],
    max_completion_tokens: 1,
    prompt_logprobs: 0,
  };
  const text = JSON.stringify({ ...ask, nvext }).replace(
    '"token_data"',
    '"backend_instance_id":889013574522070843,"token_data"',
  );
  const response = await fetch(`${dynamo.url}/v1/chat/completions`, { method: 'POST', body: text });
  const answer = parseBigJson(await response.text()) as {
    nvext: Record<string, unknown>;
    prompt_logprobs: unknown[];
  };
  expect(answer.nvext.worker_id).toEqual({
    prefill_worker_id: 889013574522070843n,
    decode_worker_id: 889013574522070843n,
  });
  expect(answer.prompt_logprobs).toHaveLength(3);
  expect(answer.nvext.prompt_logprobs).toHaveLength(3);
});

it.each([
  [{ messages: [{}] }, 400, 'missing field `model`'],
  [{ model: 'reference' }, 400, 'missing field `messages`'],
  [{ model: 'reference', messages: [] }, 400, "The 'messages' field cannot be empty"],
  [{ model: 'reference', messages: [{}], nvext: { zzz: 1 } }, 400, 'unknown field `zzz`'],
  [{ model: 'reference', messages: [{}], nvext: { token_data: ['a'] } }, 400, 'expected u32'],
  [{ model: 'reference', messages: [{}], nvext: { token_data: [1e9] } }, 400, 'Invalid request'],
  [{ model: 'gone', messages: [{}] }, 404, 'Model not found'],
])('refuses %j as the real frontend does', async (body, status, message) => {
  const answer = await frontend('/v1/chat/completions', body);
  expect(answer.status).toBe(status);
  expect(String(answer.body?.message)).toContain(message);
});

it('is healthy, and lists its model, whatever its workers do', async () => {
  expect((await frontend('/health')).status).toBe(200);
  expect(JSON.stringify((await frontend('/v1/models')).body?.data)).toContain('reference');
  expect((await frontend('/engine/pause_generation', {})).body).toMatchObject({
    type: 'Not Found',
    code: 404,
  });
});
