/** Requests that take effect after the push has given them up. */
import { expect, it } from 'vitest';
import { recoverFleet } from '../../src/update/index.js';
import { Gate } from '../faults/gate.js';
import { withStateDirectory } from './left-behind.js';
import { type Bench, failedReport, isPaused, withBench } from './support.js';

/** A bench of engines behind gates. */
async function withGates(
  engines: number,
  body: (bench: Bench, gates: readonly Gate[]) => Promise<void>,
): Promise<void> {
  await withBench({ engines, workers: 1 }, async (bench) => {
    const gates = await Promise.all(bench.urls.map((url) => Gate.open(url)));
    try {
      await body(bench, gates);
    } finally {
      await Promise.all(gates.map((gate) => gate.close()));
    }
  });
}

it('does not promise that an engine serves while a pause that it never answered may still come', async () => {
  await withGates(2, async ({ connect, urls, b }, gates) => {
    let arrive = (): void => undefined;
    const arrival = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    gates[0]?.decide(({ path }) =>
      path === '/pause' ? { forward: () => arrival, reply: { kind: 'none' } } : null,
    );
    const session = await connect({ engines: gates.map(({ url }) => url), timeouts: { pause: 500 } });
    const report = await failedReport(session.update(b));
    expect(report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_ENGINE_TIMEOUT', engine: gates[0]?.url },
      engines: [{ state: 'unknown' }, { state: 'serving-old' }],
    });
    expect(report.engines[0]?.history.at(-1)?.reason).toContain('never answered');
    arrive();
    await expect.poll(() => isPaused(urls[0] as string)).toBe(true);
    expect(await isPaused(urls[1] as string)).toBe(false);

    // The next push sees it.
    gates[0]?.decide(() => null);
    expect(await session.update(b)).toMatchObject({ outcome: 'updated' });
    expect(await isPaused(urls[0] as string)).toBe(false);
    await session.close();
  });
});

it('keeps an engine out, also where files could heal it, while a start that it never answered may still come', async () => {
  await withGates(2, async ({ connect, urls, engines, b }, gates) => {
    let arrive = (): void => undefined;
    const arrival = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    gates[0]?.decide(({ path }) =>
      path === '/start_weight_update' ? { forward: () => arrival, reply: { kind: 'none' } } : null,
    );
    const session = await connect({
      engines: gates.map(({ url }) => url),
      fallback: 'filesystem',
      timeouts: { update: 1_000 },
    });
    const report = await failedReport(session.update(b));
    expect(report).toMatchObject({
      outcome: 'quarantined',
      engines: [{ state: 'quarantined' }, { state: 'serving-old' }],
    });
    expect(report.engines[0]?.history.at(-1)?.reason).toContain('may still take effect');
    arrive();
    await expect.poll(async () => (await engines[0]?.state())?.updating).toBe(true);
    expect(await Promise.all(urls.map(isPaused))).toEqual([true, false]);

    // The next push finds the session open, and closes it.
    gates[0]?.decide(() => null);
    expect(await session.update(b)).toMatchObject({ outcome: 'updated' });
    expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
    await session.close();
  });
});

it('resumes an engine whose answer to a start was lost: it takes the finish', async () => {
  await withGates(1, async ({ connect, urls, b }, gates) => {
    gates[0]?.decide(({ path }) =>
      path === '/start_weight_update' ? { forward: 'now', reply: { kind: 'none' } } : null,
    );
    const session = await connect({ engines: gates.map(({ url }) => url), timeouts: { update: 1_000 } });
    const report = await failedReport(session.update(b));
    expect(report.engines).toMatchObject([{ state: 'serving-old' }]);
    expect(await isPaused(urls[0] as string)).toBe(false);
    await session.close();
  });
});

it('leaves no engine waiting in a group that was given up because another engine refused to join', async () => {
  await withGates(2, async ({ connect, engines, b }, gates) => {
    // It is told to join when the other one has already failed.
    gates[0]?.decide(({ path }) =>
      path === '/init_weight_transfer_engine'
        ? { forward: 'now', reply: { kind: 'pass' }, before: () => failed }
        : null,
    );
    const failed = new Promise<void>((resolve) => {
      gates[1]?.decide(({ path }) => {
        if (path !== '/init_weight_transfer_engine') return null;
        setTimeout(resolve, 100);
        return { forward: 'never', reply: { kind: 'answer', status: 500, text: '{"error":"no"}' } };
      });
    });
    const session = await connect({ engines: gates.map(({ url }) => url) });
    const report = await failedReport(session.update(b));
    expect(report.engines.map(({ state }) => state)).toEqual(['serving-old', 'serving-old']);
    expect((await engines[0]?.exchanges())?.at(-1)).toMatchObject({
      path: '/init_weight_transfer_engine',
      status: 500,
    });
    expect(await engines[0]?.state()).toMatchObject({ pending: 0 });
    await session.close();
  });
});

it('says that an engine may be stuck which was told to join too late, and never answered', async () => {
  await withGates(2, async ({ connect, engines, b }, gates) => {
    let arrive = (): void => undefined;
    const arrival = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    gates[0]?.decide(({ path }) =>
      path === '/init_weight_transfer_engine' ? { forward: () => arrival, reply: { kind: 'none' } } : null,
    );
    const session = await connect({ engines: gates.map(({ url }) => url), timeouts: { rendezvous: 500 } });
    const report = await failedReport(session.update(b));
    expect(report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_RENDEZVOUS_TIMEOUT' },
      engines: [{ state: 'unknown' }, { state: 'serving-old' }],
    });
    arrive();
    await expect.poll(async () => (await engines[0]?.state())?.pending).toBe(1);
    expect(await engines[1]?.state()).toMatchObject({ pending: 0 });
    await session.close();
  });
});

it('leaves word of a pause that was never answered, so that others resume the engine', async () => {
  await withStateDirectory((stateDir) =>
    withGates(1, async ({ connect, urls, b }, gates) => {
      let arrive = (): void => undefined;
      const arrival = new Promise<void>((resolve) => {
        arrive = resolve;
      });
      gates[0]?.decide(({ path }) =>
        path === '/pause' ? { forward: () => arrival, reply: { kind: 'none' } } : null,
      );
      const engines = gates.map(({ url }) => url);
      const session = await connect({ engines, stateDir, timeouts: { pause: 500 } });
      await failedReport(session.update(b));
      await session.close();
      arrive();
      await expect.poll(() => isPaused(urls[0] as string)).toBe(true);
      gates[0]?.decide(() => null);
      expect(await recoverFleet({ engines, stateDir })).toMatchObject({ outcome: 'recovered' });
      expect(await isPaused(urls[0] as string)).toBe(false);
    }),
  );
});
