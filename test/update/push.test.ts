import { expect, it } from 'vitest';
import { VLLM_VERSIONS } from '../../src/testing/index.js';
import { answer, digestsOf, isPaused, withBench } from './support.js';

it('moves two engines of two workers to a sharded checkpoint, proves every parameter and resumes', async () => {
  await withBench({ engines: 2, workers: 2 }, async ({ connect, engines, urls, b }) => {
    const before = await answer(urls[0] as string);
    const session = await connect();
    const report = await session.update(b, { version: 'step-1' });

    expect(report).toMatchObject({ outcome: 'updated', transport: 'nccl', emulated: true, error: null });
    expect(report.nccl).toMatchObject({ worldSize: 5, reused: false });
    expect(report.transfer?.bytes).toBe(report.weights.bytes);
    for (const engine of report.engines) {
      expect(engine).toMatchObject({
        state: 'serving-new',
        workers: 2,
        weightVersion: 'step-1',
        transport: 'nccl',
      });
      expect(engine.proof).toMatchObject({ method: 'digest', mismatched: [], unprovable: [] });
      expect(engine.proof?.proved).toBe(engine.proof?.total);
      expect(engine.history.map(({ state }) => state)).toEqual([
        'serving-old',
        'paused',
        'receiving',
        'received',
        'verified',
        'serving-new',
      ]);
    }
    expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
    expect(await answer(urls[0] as string)).not.toEqual(before);
    expect(await answer(urls[0] as string)).toEqual(await answer(urls[1] as string));
    const [first, second] = await Promise.all(engines.map(digestsOf));
    expect(first).toEqual(second);
  });
});

it('keeps the group for the next updates of a session, and proves those by fingerprint', async () => {
  await withBench({ engines: 2, workers: 1 }, async ({ connect, a, b, c }) => {
    const session = await connect();
    await session.update(a);
    for (const checkpoint of [b, c, b]) {
      const report = await session.update(checkpoint);
      expect(report.nccl?.reused).toBe(true);
      expect(report.phases.map(({ phase }) => phase)).not.toContain('rendezvous');
      expect(report.engines.map((engine) => engine.proof?.method)).toEqual(['fingerprint', 'fingerprint']);
    }
    const digested = await session.update(c, { verify: 'digest' });
    expect(
      digested.engines.every(
        (engine) => engine.proof?.method === 'digest' && engine.proof.mismatched.length === 0,
      ),
    ).toBe(true);
  });
});

it.each(VLLM_VERSIONS)(
  'speaks the dialect of vLLM %s, packed and per tensor, one session after the other',
  async (version) => {
    await withBench({ engines: 1, workers: 2, version }, async ({ connect, engines, b, c }) => {
      const packed = await connect();
      expect(await packed.update(b)).toMatchObject({ outcome: 'updated', transport: 'nccl' });
      const after = await digestsOf(engines[0] as never);
      await packed.close();

      const perTensor = await connect({ packed: false });
      expect(await perTensor.update(c)).toMatchObject({ outcome: 'updated', transport: 'nccl' });
      expect(await digestsOf(engines[0] as never)).not.toEqual(after);
      await perTensor.update(b, { verify: 'none' });
      expect(await digestsOf(engines[0] as never)).toEqual(after);
    });
  },
);

it('puts engines of different versions into one group, each told in its own dialect', async () => {
  await withBench({ engines: 1, workers: 1, version: '0.32.0' }, async (young) => {
    await withBench({ engines: 1, workers: 2, version: '0.18.1' }, async (old) => {
      const session = await young.connect({ engines: [...young.urls, ...old.urls] });
      const report = await session.update(young.b);
      expect(report).toMatchObject({ outcome: 'updated', nccl: { worldSize: 4 } });
      expect(report.engines.map((engine) => engine.proof?.method)).toEqual(['digest', 'fingerprint']);
    });
  });
});

it('loads from disk when told to, also on engines without weight transfer', async () => {
  await withBench({ engines: 2, workers: 2, weightTransfer: false }, async ({ connect, engines, b }) => {
    const session = await connect({ transport: 'filesystem' });
    const report = await session.update(b, { version: 'disk' });
    expect(report).toMatchObject({ outcome: 'updated', transport: 'filesystem', nccl: null });
    expect(report.engines.map((engine) => engine.weightVersion)).toEqual(['disk', 'disk']);
    expect(report.engines.every((engine) => engine.proof?.proved === engine.proof?.total)).toBe(true);
    expect(await digestsOf(engines[0] as never)).toEqual(await digestsOf(engines[1] as never));
  });
});

it('lets requests that run across a keep pause finish', async () => {
  await withBench({ engines: 1, workers: 1, tokenMs: 20 }, async ({ connect, urls, b }) => {
    const session = await connect();
    const running = fetch(`${urls[0]}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'reference', prompt: [1, 2, 3], max_tokens: 100, temperature: 0 }),
    });
    await session.update(b, { verify: 'none' });
    const response = await running;
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ choices: [{ finish_reason: 'length' }] });
  });
});
