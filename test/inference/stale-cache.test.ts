/** Reference engines keep what older weights computed in their prefix cache, as vLLM does when a pause does not clear it. */
import { describe, expect, it } from 'vitest';
import { computeTeacherLogprobs, InferenceClient } from '../../src/inference/index.js';
import { updateWeights } from '../../src/operations/index.js';
import { withPrimeRl } from '../update/prime-rl-support.js';
import { withBench } from '../update/support.js';

const MODEL = 'reference';
const PROMPT = [11, 7, 42, 3, 29];

/** prime-rl keeps the caches, and leaves it to the salt that nobody reads them (contracts/prime-rl.md 1.1). */
async function updateAsPrimeRlDoes(url: string, directory: string): Promise<void> {
  const post = async (path: string, body?: object): Promise<void> => {
    const response = await fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    expect(response.status, await response.text()).toBe(200);
  };
  await post('/pause?mode=keep&clear_cache=false');
  await post('/collective_rpc', { method: 'reload_weights', kwargs: { weights_path: directory } });
  await post('/resume');
}

describe('the prefix cache after an update', () => {
  it('is reused under the version that filled it, and never under the new one', async () => {
    await withBench({ engines: 2 }, async ({ urls, b }) => {
      await using first = new InferenceClient(urls[0] as string);
      await using second = new InferenceClient(urls[1] as string);
      const score = (client: InferenceClient, weightVersion: number) =>
        client.score({ model: MODEL, tokens: PROMPT, weightVersion });
      const before = await score(first, 1);
      expect(await score(second, 1)).toEqual(before);

      for (const url of urls) await updateAsPrimeRlDoes(url, b);
      // What the salt is for: under the old one an engine still answers with what the old weights computed.
      expect(await score(first, 1)).toEqual(before);
      const after = await score(first, 2);
      expect(after).not.toEqual(before);
      expect(
        await computeTeacherLogprobs([first, second], MODEL, [PROMPT, PROMPT], { weightVersion: 2 }),
      ).toEqual([after, after]);
    });
  });

  it('is not reused by a prime-rl server either, which never clears it: tokens and scores are those of the weights', async () => {
    await withPrimeRl([{ broadcast: 'filesystem' }, { broadcast: 'filesystem' }], async ({ engines, b }) => {
      const [url, other] = engines.map((engine) => engine.url) as [string, string];
      await using client = new InferenceClient(`prime-rl=${url}`);
      await using fresh = new InferenceClient(`prime-rl=${other}`);
      expect(client.transport).toBe('vllm_generate');
      const score = (weightVersion: number) => client.score({ model: MODEL, tokens: PROMPT, weightVersion });
      const before = await score(1);
      await updateWeights([url, other], b);
      expect(await score(1)).toEqual(before);
      const after = await score(2);
      expect(after).not.toEqual(before);
      // A server whose cache has seen nothing says the same without a salt.
      expect(await computeTeacherLogprobs([fresh], MODEL, [PROMPT])).toEqual([after]);
      const request = { model: MODEL, tokens: PROMPT, weightVersion: 2, maxTokens: 3, logprobs: true };
      const { tokens, logprobs } = await client.generate(request);
      const scores = await fresh.score({ ...request, tokens: [...PROMPT, ...tokens] });
      expect(scores.slice(PROMPT.length)).toEqual(logprobs);
    });
  });

  it('generates what a prompt of the same tokens scores', async () => {
    await withBench({ engines: 1 }, async ({ urls }) => {
      await using client = new InferenceClient(urls[0] as string);
      const request = { model: MODEL, tokens: PROMPT, weightVersion: 1, maxTokens: 3, logprobs: true };
      const { tokens, logprobs, finishReason } = await client.generate(request);
      expect(finishReason).toBe('length');
      const scores = await client.score({ ...request, tokens: [...PROMPT, ...tokens] });
      expect(scores.slice(PROMPT.length)).toEqual(logprobs);
    });
  });
});
