import type { ModelName, Models } from './models.js';
import type { VllmServer } from './server.js';

/** What has to be known of a server to ask it. */
type Served = Pick<VllmServer, 'url' | 'model' | 'workers'>;

/** Log-probabilities of bf16 engines differ from float32 by less than this; those of a wrong model by more than 2. */
export const SCORE_NOISE = 0.15;

async function call<T>(url: string, method: 'GET' | 'POST', path: string, body?: unknown): Promise<T> {
  const reply = await fetch(url + path, {
    method,
    headers: { 'content-type': 'application/json' },
    signal: AbortSignal.timeout(120_000),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${text}`);
  return (text === '' ? null : JSON.parse(text)) as T;
}

/** POST to a server with these tests' own client, which shares nothing with the code that is judged. */
export const post = <T>(server: Served, path: string, body?: unknown): Promise<T> =>
  call<T>(server.url, 'POST', path, body);

export const get = <T>(server: Served, path: string): Promise<T> => call<T>(server.url, 'GET', path);

/** What the server's own weight checker says: 'dp0:pp0:pcp0:tp0:' + parameter → SHA-256 of its bytes. */
export async function weightChecker(server: Served): Promise<Record<string, string>> {
  const body = { action: 'checksum' };
  // After a call that failed, vLLM's executor hands out the answers of every worker but the first one call late.
  if (server.workers > 1) await post(server, '/weight_checker', body).catch(() => undefined);
  return (await post<{ checksums: Record<string, string> }>(server, '/weight_checker', body)).checksums;
}

export async function isPaused(server: Served): Promise<boolean> {
  return (await get<{ is_paused: boolean }>(server, '/is_paused')).is_paused;
}

type Scores = readonly (readonly number[])[];

/** Log-probability of each prompt token after the first, for each prompt. */
export async function score(server: Served, prompts: readonly (readonly number[])[]): Promise<Scores> {
  const scores: number[][] = [];
  for (const prompt of prompts) {
    const body = { model: server.model, prompt, max_tokens: 1, temperature: 0, prompt_logprobs: 0 };
    const reply = await post<{
      choices: { prompt_logprobs: (Record<string, { logprob: number }> | null)[] }[];
    }>(server, '/v1/completions', body);
    const table = reply.choices[0]!.prompt_logprobs;
    scores.push(prompt.slice(1).map((token, index) => table[index + 1]![String(token)]!.logprob));
  }
  return scores;
}

/** Largest difference between what the server scores and what `transformers` computed from the model's files. */
export async function scoreDistance(server: Served, models: Models, name: ModelName): Promise<number> {
  const scores = await score(server, models.prompts);
  const truth = models.truth(name).logprobs;
  return Math.max(...scores.flatMap((row, i) => row.map((value, j) => Math.abs(value - truth[i]![j]!))));
}
