/** The requests that were recorded on real servers are what the clients send, and their answers are read. */
import { describe, expect, it } from 'vitest';
import type { Reply } from '../../src/engines/admin.js';
import { WeightcastError } from '../../src/errors.js';
import { generateExchange, scoreExchange } from '../../src/inference/exchanges.js';
import { vectorText } from '../engines/dynamo/recordings.js';
import { recorded as recordedVllm, replyOf, VERSIONS } from '../engines/vllm/recordings.js';

interface Recorded {
  readonly note: string;
  readonly status: number;
  readonly content_type: string;
  readonly request: Record<string, unknown> & { readonly nvext?: { readonly token_data: number[] } };
  readonly response: { readonly prompt_logprobs?: unknown; readonly nvext?: Record<string, unknown> };
}

const dynamo = (name: string): readonly Recorded[] =>
  JSON.parse(vectorText(`${name}.json`)) as readonly Recorded[];
const TINY = dynamo('nvext_tiny');
const MOCK = dynamo('nvext_mock');

const reply = ({ status, content_type, response }: Recorded): Reply => ({
  status,
  contentType: content_type,
  text: JSON.stringify(response),
  json: response,
});

function noted(list: readonly Recorded[], note: string): Recorded {
  const found = list.find((entry) => entry.note === note);
  if (found === undefined) throw new Error(`nothing was recorded as ${note}`);
  return found;
}

const PROMPT = [257, 117, 115, 101, 114, 10, 104, 105, 258];
const score = (tokens: readonly number[] = PROMPT) =>
  scoreExchange('dynamo_chat', 'e', { model: 'tiny', tokens, weightVersion: null });

function errorFrom(read: () => unknown): WeightcastError {
  try {
    read();
  } catch (error) {
    if (error instanceof WeightcastError) return error;
  }
  throw new Error('it was read');
}

describe('dynamo_chat on a real Dynamo 1.6.1', () => {
  it('scores with the very request that was recorded', () => {
    expect(score()).toMatchObject({ path: '/v1/chat/completions', at: 'inference' });
    expect(score().body).toEqual(noted(TINY, 'teacher logprobs as #2773').request);
  });

  it('reads the logprob of each token, which is not the first entry of its position', () => {
    const { response } = noted(TINY, 'teacher logprobs as #2773');
    const scores = score().read(reply(noted(TINY, 'teacher logprobs as #2773')));
    expect(scores).toEqual(
      [
        0, -6.622269153594971, -6.063912391662598, -5.964541435241699, -6.4893598556518555, -6.4553804397583,
        -6.035483837127686, -6.364227771759033, -5.8380208015441895,
      ].map((value, index) => (index === 0 ? 0 : expect.closeTo(value, 12))),
    );
    const raw = response.nvext?.prompt_logprobs as (Record<string, { logprob: number }> | null)[];
    const firsts = raw.map((entry) => Object.values(entry ?? {})[0]?.logprob ?? 0);
    expect(scores).not.toEqual(firsts);
  });

  it('reads the f32 numbers at the top where nvext has none: the same ones', () => {
    const precise = score().read(reply(noted(TINY, 'teacher logprobs as #2773')));
    const top = score().read(reply(noted(TINY, 'same, no extra_fields')));
    expect(top.map(Math.fround)).toEqual(precise.map(Math.fround));
    expect(top).not.toEqual(precise);
  });

  it.each(['same, prompt_logprobs 0', 'same, prompt_logprobs 2'])('reads "%s" alike', (note) => {
    expect(score().read(reply(noted(TINY, note)))).toEqual(
      score().read(reply(noted(TINY, 'teacher logprobs as #2773'))),
    );
  });

  it('says of a mocker, and of a request without prompt_logprobs, that nothing was scored', () => {
    for (const answer of [
      noted(MOCK, 'teacher logprobs as #2773'),
      noted(TINY, 'no prompt_logprobs but extra_field'),
    ]) {
      const error = errorFrom(() => score().read(reply(answer)));
      expect(error).toMatchObject({ code: 'WC_ENGINE_PROTOCOL', engine: 'e' });
      expect(error.message).toContain('score: the answer has no prompt_logprobs');
    }
  });

  it('reads generated tokens and their logprobs', () => {
    const entry = noted(TINY, 'all extra fields');
    const request = { model: 'tiny', tokens: PROMPT, weightVersion: 'v1', maxTokens: 4, logprobs: true };
    const generate = generateExchange('dynamo_chat', 'e', request);
    expect(generate.body).toEqual({
      model: 'tiny',
      messages: [{ role: 'user', content: '.' }],
      max_completion_tokens: 4,
      temperature: 1,
      top_p: 1,
      logprobs: true,
      nvext: { token_data: PROMPT, extra_fields: ['completion_token_ids'], cache_salt: 'v1' },
    });
    expect(generate.read(reply(entry))).toEqual({
      tokens: [258],
      logprobs: [-4.94298],
      finishReason: 'stop',
      weightVersions: null,
    });
    const mock = reply(noted(MOCK, 'all extra fields'));
    expect(errorFrom(() => generate.read(mock)).message).toContain('no logprob for each of 4');
    const plain = generateExchange('dynamo_chat', 'e', { ...request, logprobs: false });
    expect(plain.read(mock)).toMatchObject({ tokens: [1213, 1347, 1090, 1012], logprobs: null });
  });

  it('sends no key in nvext that the server would refuse', () => {
    const { message } = noted(TINY, 'cache_salt nvext + unknown nvext key').response as { message?: string };
    const known = [...(message ?? '').matchAll(/`(\w+)`/g)].map(([, name]) => name);
    const { nvext } = generateExchange('dynamo_chat', 'e', {
      model: 'm',
      tokens: [1],
      weightVersion: 3,
      maxTokens: 1,
    }).body as { nvext: object };
    expect(known.length).toBeGreaterThan(10);
    for (const key of Object.keys(nvext)) expect(known.slice(1)).toContain(key);
  });

  it('tells the refusal in the words of the server', () => {
    const error = errorFrom(() => score().read(reply(noted(TINY, 'token_data out of range'))));
    expect(error).toMatchObject({ code: 'WC_ENGINE_HTTP', details: { status: 400 } });
    expect(error.message).toBe('score: the engine answered 400: Invalid request');
    const closed = errorFrom(() => score().read(reply(noted(TINY, 'inference/v1/generate'))));
    expect(closed.code).toBe('WC_ENGINE_NOT_CONFIGURED');
  });
});

describe.each(VERSIONS)('vllm_generate on a real vLLM %s', (version) => {
  const exchanges = recordedVllm(version).filter(
    ({ path, note }) => path === '/inference/v1/generate' && note === undefined,
  );
  const tokens = [5, 17, 40, 99, 123, 7, 200, 31];
  const request = { model: 'tiny', tokens, weightVersion: 'v1', maxTokens: 4, temperature: 0 };
  const scored = exchanges.filter(({ body }) => {
    const sampling = (body as { sampling_params?: { prompt_logprobs?: number } }).sampling_params;
    return sampling?.prompt_logprobs !== undefined;
  });

  it('sends only fields that a real server took', () => {
    const taken = new Set(exchanges.flatMap(({ body }) => Object.keys(body as object)));
    const sampling = exchanges.flatMap(({ body }) =>
      Object.keys((body as { sampling_params?: object }).sampling_params ?? {}),
    );
    const sent = generateExchange('vllm_generate', 'e', { ...request, logprobs: true }).body as {
      sampling_params: object;
    };
    for (const key of Object.keys(sent)) expect(taken).toContain(key);
    // top_p is prime-rl's (contracts/dynamo.md 2.2).
    for (const key of Object.keys(sent.sampling_params)) expect([...sampling, 'top_p']).toContain(key);
  });

  it('reads what was generated and scored, or says how to open the route', () => {
    expect(scored.length).toBeGreaterThan(0);
    for (const entry of scored) {
      const generate = generateExchange('vllm_generate', 'e', request);
      const score = scoreExchange('vllm_generate', 'e', request);
      if (entry.status !== 200) {
        const error = errorFrom(() => score.read(replyOf(entry)));
        expect(error.code).toBe('WC_ENGINE_NOT_CONFIGURED');
        expect(error.remedy).toContain('--enable-scale-out');
        continue;
      }
      expect(generate.read(replyOf(entry))).toMatchObject({
        tokens: [73, 44, 197, 68],
        finishReason: 'length',
      });
      const scores = score.read(replyOf(entry));
      expect(scores[0]).toBe(0);
      expect(scores[1]).toBeCloseTo(-7.546802043914795, 6);
      expect(scores).toHaveLength(tokens.length);
    }
  });

  it('reads the logprobs of generated tokens', () => {
    const entry = scored.find(
      ({ body, status }) => status === 200 && JSON.stringify(body).includes('"logprobs"'),
    );
    if (entry === undefined) {
      expect(['0.30.0']).toContain(version);
      return;
    }
    const generate = generateExchange('vllm_generate', 'e', { ...request, logprobs: true });
    const { logprobs, weightVersions } = generate.read(replyOf(entry));
    expect(logprobs?.[0]).toBeCloseTo(-1.4512145519256592, 6);
    if (['0.32.0', '0.33.0'].includes(version)) {
      expect(weightVersions).toEqual([{ version: expect.any(String), start: 0, end: 4 }]);
    }
  });
});

describe('an answer that is none', () => {
  it('200 with an error in it, as vLLM 0.16 gives, is an error', () => {
    const entry = recordedVllm('0.16.0').find(
      ({ path, status, response }) =>
        path === '/inference/v1/generate' && status === 200 && JSON.stringify(response).includes('"error"'),
    );
    if (entry === undefined) throw new Error('nothing was recorded');
    const { read } = scoreExchange('vllm_generate', 'e', { model: 'm', tokens: [1], weightVersion: null });
    expect(errorFrom(() => read(replyOf(entry))).code).toBe('WC_ENGINE_HTTP');
  });
});
