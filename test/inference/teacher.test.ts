import { describe, expect, it } from 'vitest';
import { computeTeacherLogprobs, InferenceClient } from '../../src/inference/index.js';
import { deferred } from '../../src/testing/deferred.js';
import { errorOf, expectCode } from '../engines/client.js';
import { type Handler, sendJson, withServer } from '../engines/server.js';

interface Body {
  readonly token_ids?: number[];
  readonly nvext?: { readonly token_data: number[] };
  readonly cache_salt?: string;
}

const tokensIn = (body: string): number[] => {
  const parsed = JSON.parse(body) as Body;
  return parsed.token_ids ?? parsed.nvext?.token_data ?? [];
};

/** A teacher whose logprob of a token is minus the token. */
const scores = (tokens: readonly number[]) =>
  tokens.map((token, index) =>
    index === 0 ? null : { [token]: { logprob: -token }, [token + 1]: { logprob: -0.1 } },
  );

const vllm: Handler = ({ body }, response) =>
  sendJson(response, 200, { choices: [{}], prompt_logprobs: scores(tokensIn(body)) });
const dynamo: Handler = ({ body }, response) =>
  sendJson(response, 200, { choices: [{}], nvext: { prompt_logprobs: scores(tokensIn(body)) } });

describe('computeTeacherLogprobs', () => {
  it('gives the samples to the clients in turn, over either transport, and keeps their order', async () => {
    await withServer(vllm, (one) =>
      withServer(dynamo, async (two) => {
        await using first = new InferenceClient(one.url);
        await using second = new InferenceClient(two.url, { transport: 'dynamo_chat' });
        const samples = [
          [1, 10],
          { promptTokens: [2], completionTokens: [20, 21] },
          [3, 30],
          [4, 40],
          [5, 50],
        ];
        expect(await computeTeacherLogprobs([first, second], 'teacher', samples)).toEqual([
          [0, -10],
          [0, -20, -21],
          [0, -30],
          [0, -40],
          [0, -50],
        ]);
        const firsts = ({ received }: typeof one) => received.map(({ body }) => tokensIn(body)[0]).sort();
        expect(firsts(one)).toEqual([1, 3, 5]);
        expect(firsts(two)).toEqual([2, 4]);
        for (const { body } of one.received) expect(body).not.toContain('cache_salt');
      }),
    );
  });

  it('salts where the teacher is itself trained', async () => {
    await withServer(vllm, async ({ url, received }) => {
      await using client = new InferenceClient(url);
      await computeTeacherLogprobs([client], 'policy', [[1, 2]], { weightVersion: 3 });
      expect((JSON.parse(received[0]?.body ?? '') as Body).cache_salt).toBe('3');
    });
  });

  it('has no more requests in flight at a client than it was told', async () => {
    let most = 0;
    const held: (() => void)[] = [];
    // Answers three at a time, once a fourth has had time to come.
    const counting: Handler = (request, response, socket) => {
      held.push(() => void vllm(request, response, socket));
      most = Math.max(most, held.length);
      if (held.length === 3) setTimeout(() => held.splice(0).forEach((answer) => void answer()), 20);
    };
    await withServer(counting, async ({ url }) => {
      await using client = new InferenceClient(url);
      const samples = Array.from({ length: 9 }, (_, index) => [index + 1, 5]);
      const all = await computeTeacherLogprobs([client], 'teacher', samples, { concurrency: 3 });
      expect(all).toEqual(samples.map(() => [0, -5]));
      expect(most).toBe(3);
    });
  });

  it('ends with the first sample that can not be scored, says which, and gives up the others', async () => {
    const hanging: Handler = ({ body }, response) => {
      if (tokensIn(body)[0] === 3) sendJson(response, 200, { choices: [{}], prompt_logprobs: [null, {}] });
    };
    await withServer(hanging, async ({ url }) => {
      await using client = new InferenceClient(url);
      const samples = [
        [1, 10],
        [2, 20],
        [3, 30],
      ];
      const error = await errorOf(computeTeacherLogprobs([client], 'teacher', samples));
      expect(error).toMatchObject({ code: 'WC_ENGINE_PROTOCOL', engine: url, details: { sample: 2 } });
      expect(error.message).toContain('sample 2: score: position 1: it lacks its own token 30');
    });
  });

  it('ends at the signal', async () => {
    const asked = deferred<void>();
    await withServer(
      () => asked.resolve(undefined),
      async ({ url }) => {
        await using client = new InferenceClient(url);
        const stop = new AbortController();
        const scoring = computeTeacherLogprobs([client], 'teacher', [[1, 2]], { signal: stop.signal });
        const ended = expectCode(scoring, 'WC_UPDATE_ABORTED');
        await asked.promise;
        stop.abort();
        await ended;
      },
    );
  });

  it('has nothing to do for no samples, and refuses to work without a client', async () => {
    await using client = new InferenceClient('http://127.0.0.1:9');
    expect(await computeTeacherLogprobs([client], 'teacher', [])).toEqual([]);
    await expectCode(computeTeacherLogprobs([], 'teacher', [[1]]), 'WC_CONFIG_INVALID');
    await expectCode(
      computeTeacherLogprobs([client], 'teacher', [[1]], { concurrency: 0 }),
      'WC_CONFIG_INVALID',
    );
  });
});
