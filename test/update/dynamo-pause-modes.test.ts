/** How Dynamo workers pause, and what weightcast does about it (contracts/dynamo.md, Behaviour 1 and 2). */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { ReferenceDynamoWorker } from '../../src/testing/index.js';
import { chat, engineRoute, withDynamo } from './dynamo-bench.js';

const isGenerating = async (worker: ReferenceDynamoWorker) => {
  const metrics = await (await fetch(`${worker.systemUrl}/metrics`)).text();
  return Number(/inflight_requests\{.*\} (\d+)$/m.exec(metrics)?.[1]) > 0;
};

it('waits for requests that hold an adapter where keep is refused, and says so', {
  timeout: 90_000,
}, async () => {
  await withDynamo({ tokenMs: 5 }, async ({ dynamo, connect, workers, a, b }) => {
    const [worker] = workers as [ReferenceDynamoWorker];
    const adapter = join(a, 'adapter');
    await mkdir(adapter);
    await engineRoute(worker, 'load_lora', { lora_name: 'policy', source: { uri: `file://${adapter}` } });
    const session = await connect({ pauseMode: 'keep' });
    const running = chat(dynamo, { model: 'policy', tokens: 300 });
    await expect.poll(() => isGenerating(worker), { timeout: 20_000 }).toBe(true);
    const report = await session.update(b, { version: '7' });
    expect(report.outcome).toBe('updated');
    expect(report.notes).toContainEqual(expect.stringMatching(/active LoRA requests: policy.*wait/));
    expect(await running).toMatchObject({ status: 200, reason: 'length', tokens: 300 });
  });
});

it('counts the requests that a pause by abort cuts, since to their clients they look finished', {
  timeout: 90_000,
}, async () => {
  await withDynamo({ tokenMs: 5 }, async ({ dynamo, connect, workers, b }) => {
    const [worker] = workers as [ReferenceDynamoWorker];
    const session = await connect({ pauseMode: 'abort' });
    const running = chat(dynamo, { tokens: 3_000 });
    await expect.poll(() => isGenerating(worker), { timeout: 20_000 }).toBe(true);
    const report = await session.update(b, { version: '7' });
    expect(report.notes).toContainEqual(expect.stringContaining('1 request was running when the pause cut'));
    const answer = await running;
    expect(answer).toMatchObject({ status: 200, reason: 'stop' });
    expect(answer.tokens).toBeLessThan(3_000);
  });
});
