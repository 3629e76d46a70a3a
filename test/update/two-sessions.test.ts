/** Two sessions that push to the same engines, one after the other, as a `watch` and a push by hand do. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Bench, digestsOf, digestsOfLoaded, postsTo, withBench } from './support.js';

/** With more weights than the emulated NCCL buffers, a broadcast into the wrong group would not end. */
function withState(body: (bench: Bench, stateDir: string) => Promise<void>): Promise<void> {
  return withBench({ engines: 1, workers: 1, layers: 60 }, async (bench) => {
    const stateDir = await mkdtemp(join(tmpdir(), 'weightcast-two-'));
    try {
      await body(bench, stateDir);
    } finally {
      await rm(stateDir, { recursive: true });
    }
  });
}

const FAST = { timeouts: { update: 10_000 }, packedBufferBytes: 200_000 };

it('a session whose group another one has replaced builds a new one instead of broadcasting to nobody', async () => {
  await withState(async ({ connect, engines: [engine], b, c }, stateDir) => {
    const [one, other] = [await connect({ stateDir, ...FAST }), await connect({ stateDir, ...FAST })];
    expect(await one.update(b)).toMatchObject({ nccl: { reused: false } });
    expect(await one.update(c)).toMatchObject({ nccl: { reused: true } });
    expect(await other.update(b)).toMatchObject({ nccl: { reused: false } });
    const report = await one.update(c);
    expect(report).toMatchObject({ outcome: 'updated', nccl: { reused: false } });
    expect(report.notes).toContainEqual(
      expect.stringContaining('another session has pushed to these engines'),
    );
    const held = await digestsOf(engine as Bench['engines'][number]);
    expect(held).toEqual(await digestsOfLoaded(engine as Bench['engines'][number], c));
  });
});

it('a session that closes ends its own group and nobody else’s', async () => {
  await withState(async ({ connect, engines, b, c }, stateDir) => {
    const farewells = async () =>
      (await postsTo(engines[0] as Bench['engines'][number])).filter((path) => path.startsWith('/shutdown'))
        .length;
    const [one, other] = [await connect({ stateDir, ...FAST }), await connect({ stateDir, ...FAST })];
    await one.update(b);
    await other.update(c);
    await one.close();
    expect(await farewells()).toBe(0);
    expect(await other.update(b)).toMatchObject({ outcome: 'updated', nccl: { reused: true } });
    await other.close();
    expect(await farewells()).toBe(1);
  });
});

it('of two sessions that update at once one is refused, and the other one does not notice', async () => {
  await withState(async ({ connect, b, c, urls }, stateDir) => {
    const [one, other] = [await connect({ stateDir, ...FAST }), await connect({ stateDir, ...FAST })];
    // Which of the two comes first is open.
    const outcomes = await Promise.allSettled([one.update(b), other.update(c)]);
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(refused).toHaveLength(1);
    expect(refused[0]?.reason).toMatchObject({
      code: 'WC_UPDATE_BUSY',
      engine: urls[0],
      message: expect.stringContaining(`process ${process.pid}`),
      report: { outcome: 'failed', pauseMs: null },
    });
    const updated = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    expect(updated[0]?.value).toMatchObject({ outcome: 'updated' });
    expect(await other.update(c)).toMatchObject({ outcome: 'updated' });
  });
});
