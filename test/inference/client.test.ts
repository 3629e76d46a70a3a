import { describe, expect, it } from 'vitest';
import { InferenceClient, type InferenceClientOptions } from '../../src/inference/index.js';
import { deferred } from '../../src/testing/deferred.js';
import { expectCode } from '../engines/client.js';
import { type Handler, sendJson, type TestServer, withServer } from '../engines/server.js';

const generated = { choices: [{ token_ids: [9], finish_reason: 'length' }], prompt_logprobs: null };
const request = { model: 'policy', tokens: [1, 2], maxTokens: 1, weightVersion: 17 };

async function withClient(
  handler: Handler,
  use: (client: InferenceClient, server: TestServer) => Promise<void>,
  options: InferenceClientOptions = {},
): Promise<void> {
  await withServer(handler, async (server) => {
    await using client = new InferenceClient(server.url, options);
    await use(client, server);
  });
}

describe('InferenceClient', () => {
  it('asks at the root of the server, also where the address ends in /v1', async () => {
    await using client = new InferenceClient('http://host:8000/v1/');
    expect(client).toMatchObject({ transport: 'vllm_generate', url: 'http://host:8000' });
    await using routed = new InferenceClient('http://host:8000', { inferenceUrl: 'http://router/v1' });
    expect(routed.url).toBe('http://router');
  });

  it('salts the cache with the weight version, and not at all where the weights stay', async () => {
    await withClient(
      (_, response) => sendJson(response, 200, generated),
      async (client, { received }) => {
        await client.generate(request);
        await client.generate({ ...request, weightVersion: null });
        const bodies = received.map(({ body }) => JSON.parse(body) as Record<string, unknown>);
        expect(bodies[0]).toMatchObject({ cache_salt: '17', token_ids: [1, 2], model: 'policy' });
        expect(bodies[1]).not.toHaveProperty('cache_salt');
      },
    );
  });

  it.each([
    ['an empty version', { weightVersion: '' }],
    ['a version that is no number', { weightVersion: Number.NaN }],
    ['no tokens', { tokens: [] }],
    ['a token that is none', { tokens: [1, -1] }],
    ['a fraction of a token', { tokens: [1.5] }],
    ['nothing to generate', { maxTokens: 0 }],
  ])('refuses %s before anything is sent', async (_, wrong) => {
    await withClient(
      (_, response) => sendJson(response, 200, generated),
      async (client, { received }) => {
        const call = async () => client.generate({ ...request, ...wrong });
        await expectCode(call(), 'WC_CONFIG_INVALID');
        expect(received).toHaveLength(0);
      },
    );
  });

  it('sends the key, the headers, and those that come from the state of a rollout', async () => {
    await withClient(
      (_, response) => sendJson(response, 200, generated),
      async (client, { received }) => {
        await client.generate({ ...request, state: { trajectory_id: 't-1', other: {} } });
        await client.generate({ ...request, state: {} });
        expect(received[0]?.headers).toMatchObject({
          authorization: 'Bearer secret',
          'x-team': 'rl',
          'x-session-id': 't-1',
        });
        expect(received[1]?.headers).not.toHaveProperty('x-session-id');
      },
      {
        apiKey: 'secret',
        headers: { 'X-Team': 'rl' },
        headersFromState: { 'X-Session-ID': 'trajectory_id', 'X-Other': 'other' },
      },
    );
  });

  it('lets the caller add sampling parameters, but not replace its own', async () => {
    await withClient(
      (_, response) => sendJson(response, 200, generated),
      async (client, { received }) => {
        await client.generate({ ...request, sampling: { ignore_eos: true, max_tokens: 99 } });
        expect(JSON.parse(received[0]?.body ?? '')).toMatchObject({
          sampling_params: { ignore_eos: true, max_tokens: 1, temperature: 1, top_p: 1 },
        });
      },
    );
  });

  it('asks again while an update has the engine paused', async () => {
    let refusals = 2;
    await withClient(
      (_, response) => {
        refusals -= 1;
        if (refusals >= 0) sendJson(response, 503, { error: { message: 'Generation is paused.' } });
        else sendJson(response, 200, generated);
      },
      async (client, { received }) => {
        expect((await client.generate(request)).tokens).toEqual([9]);
        expect(received).toHaveLength(3);
      },
    );
  });

  it('ends at its deadline, and at the signal', async () => {
    const asked = deferred<void>();
    await withClient(
      () => asked.resolve(undefined),
      async (client) => {
        const stop = new AbortController();
        const waiting = expectCode(client.generate(request, { signal: stop.signal }), 'WC_UPDATE_ABORTED');
        await asked.promise;
        stop.abort();
        await waiting;
        await expectCode(client.score(request, { timeoutMs: 50 }), 'WC_ENGINE_TIMEOUT');
      },
    );
  });

  it('stops reading an answer that is larger than one to this request can be', async () => {
    await withClient(
      (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json' });
        const flood = () => {
          while (response.write(' '.repeat(65_536)));
          response.once('drain', flood);
        };
        flood();
      },
      async (client) => {
        const error = await expectCode(client.score(request), 'WC_ENGINE_PROTOCOL');
        expect(error.message).toMatch(/is larger than \d+ bytes/);
      },
    );
  });

  it('reads the scores of a prompt of 16,384 tokens', async () => {
    const tokens = Array.from({ length: 16_384 }, (_, index) => index % 1000);
    const decoded_token = 'Ġinternationalization';
    const prompt_logprobs = tokens.map((token, index) =>
      index === 0
        ? null
        : {
            [token]: { logprob: -7.546802043914795, rank: 104, decoded_token },
            [token + 1000]: { logprob: -0.1, rank: 1, decoded_token },
          },
    );
    await withClient(
      (_, response) => sendJson(response, 200, { ...generated, prompt_logprobs }),
      async (client) => {
        const scores = await client.score({ model: 'm', tokens, weightVersion: null });
        expect(scores).toHaveLength(tokens.length);
        expect(scores.slice(1).every((score) => score === -7.546802043914795)).toBe(true);
      },
    );
  });

  it('refuses everything once it is closed', async () => {
    await withClient(
      (_, response) => sendJson(response, 200, generated),
      async (client) => {
        await client.close();
        await client.close();
        await expectCode(client.generate(request), 'WC_NATIVE_CLOSED');
      },
    );
  });
});
