/** The default: prime-rl's own servers, with no fleet and no session. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checkHealth, maybeCheckHasModel, pause, resume, updateWeights } from '../../src/operations/index.js';
import { startReferencePrimeRl, writeTinyModel } from '../../src/testing/index.js';

async function says(url: string, salt: string): Promise<unknown> {
  const body = {
    model: 'reference',
    prompt: [11, 7, 42, 3],
    max_tokens: 4,
    prompt_logprobs: 0,
    cache_salt: salt,
  };
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const { choices } = (await response.json()) as { choices: { prompt_logprobs: unknown }[] };
  return choices[0]?.prompt_logprobs;
}

it("drives prime-rl's servers by what its client calls the vLLM backend", { timeout: 120_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'weightcast-operations-'));
  try {
    await writeTinyModel(join(folder, 'step_0'), { seed: 1 });
    await writeTinyModel(join(folder, 'step_1'), { seed: 2 });
    const start = () =>
      startReferencePrimeRl({
        model: join(folder, 'step_0'),
        broadcast: 'filesystem',
        workersInEngine: true,
      });
    await using first = await start();
    await using second = await start();
    const engines = [first.url, second.url];
    await checkHealth(engines);
    await maybeCheckHasModel(engines, 'reference');
    const before = await says(first.url, 'v0');
    await pause(engines);
    await resume(engines);
    expect(await says(first.url, 'v0')).toEqual(before);
    await updateWeights(engines, join(folder, 'step_1'), { from: 'disk' });
    expect(await says(first.url, 'v1')).not.toEqual(before);
    expect(await says(second.url, 'v1')).toEqual(await says(first.url, 'v1'));
    const asked = (await first.exchanges()).map(({ method, path }) => `${method} ${path}`);
    expect(asked.filter((line) => /pause|resume|update/.test(line))).toEqual([
      'POST /pause',
      'POST /resume',
      'POST /pause',
      'POST /update_weights',
      'POST /resume',
    ]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
