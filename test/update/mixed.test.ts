/** Fleets of several backends in one update: vLLM beside prime-rl and Dynamo. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import {
  type ReferenceEngine,
  type ReferenceFaults,
  startReferenceEngine,
  startReferencePrimeRl,
  writeTinyModel,
} from '../../src/testing/index.js';
import { connectFleet, type FleetSession } from '../../src/update/index.js';
import type { FleetOptions, UpdateReport } from '../../src/update/types.js';
import { digestsOf, failedReport, isPaused, postsTo } from './support.js';

vi.setConfig({ testTimeout: 180_000 });

interface Mixed {
  readonly vllm: ReferenceEngine;
  readonly primeRl: ReferenceEngine;
  readonly a: string;
  readonly b: string;
  readonly c: string;
  connect(options?: Partial<FleetOptions>): Promise<FleetSession>;
}

/** A vLLM server with one worker beside a prime-rl server with two. */
async function withMixed(
  options: { readonly layers?: number; readonly primeRl?: ReferenceFaults; readonly vllm?: ReferenceFaults },
  body: (fleet: Mixed) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'weightcast-mixed-'));
  const sessions: FleetSession[] = [];
  const { layers = 2 } = options;
  try {
    const [a, b, c] = [join(folder, 'a'), join(folder, 'b'), join(folder, 'c')];
    await writeTinyModel(a, { seed: 1, layers });
    await writeTinyModel(b, { seed: 2, layers });
    await writeTinyModel(c, { seed: 3, layers });
    await using vllm = await startReferenceEngine({ model: a, workers: 1, faults: options.vllm ?? {} });
    await using primeRl = await startReferencePrimeRl({
      model: a,
      workers: 2,
      faults: options.primeRl ?? {},
    });
    const connect = async (more: Partial<FleetOptions> = {}) => {
      const session = await connectFleet({
        engines: [vllm.url, `prime-rl=${primeRl.url},workers=2`],
        emulate: true,
        packedBufferBytes: 50_000,
        stateDir: join(folder, 'state'),
        ...more,
      });
      sessions.push(session);
      return session;
    };
    try {
      await body({ vllm, primeRl, a, b, c, connect });
    } finally {
      await Promise.all(sessions.map((session) => session.close()));
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const states = ({ engines }: UpdateReport) => engines.map(({ state }) => state);

it('moves both backends in one pause, by a group for each wire format, which stand for the next update', async () => {
  await withMixed({}, async ({ vllm, primeRl, b, c, connect }) => {
    const session = await connect();
    const report = await session.update(b);
    expect(report).toMatchObject({ outcome: 'updated', transport: 'nccl' });
    expect(report.nccl?.groups).toEqual([
      { wire: 'vllm', worldSize: 2, reused: false, engines: [vllm.url] },
      { wire: 'prime-rl', worldSize: 3, reused: false, engines: [primeRl.url] },
    ]);
    // Proved by digest where there is a checker, and held against it where there is none.
    expect(report.engines.map(({ proof }) => proof?.method)).toEqual(['digest', 'fingerprint']);
    const [one] = await digestsOf(vllm);
    const [, other] = await digestsOf(primeRl);
    expect(Object.keys(other ?? {})).toEqual(Object.keys(one ?? {}));

    const next = await session.update(c);
    expect(next.nccl).toMatchObject({ reused: true, worldSize: 5 });
    expect((await postsTo(primeRl)).filter((path) => path === '/init_broadcaster').length).toBe(1);
  });
});

it('finds out which backend each engine is', async () => {
  await withMixed({}, async ({ vllm, primeRl, b, connect }) => {
    const session = await connect({ backend: 'auto', engines: [vllm.url, `${primeRl.url},workers=2`] });
    expect(session.engines.map(({ backend }) => backend)).toEqual(['vllm', 'prime-rl']);
    expect((await session.update(b)).engines.map(({ backend }) => backend)).toEqual(['vllm', 'prime-rl']);
  });
});

it.each(['raise', 'stall'] as const)(
  'lets no engine into a group while one of the other format does not join: %s',
  async (action) => {
    await withMixed({ primeRl: { join: { action } } }, async ({ vllm, primeRl, b, connect }) => {
      const session = await connect({ timeouts: { rendezvous: 4_000 } });
      const report = await failedReport(session.update(b));
      expect(report.error?.phase).toBe('rendezvous');
      expect(report.engines[0]?.state).toBe('serving-old');
      // With the id in its request it would enter ncclCommInitRank at once, and wait there for ever.
      const asked = (await vllm.exchanges()).filter(({ path }) => path === '/init_weight_transfer_engine');
      expect(asked.map(({ requestBody }) => requestBody.includes('nccl_unique_id'))).toEqual([false]);
      const alone = await connect({ engines: [vllm.url] });
      expect((await alone.update(b)).outcome).toBe('updated');
      expect(await postsTo(primeRl)).not.toContain('/pause');
    });
  },
);

it('leaves everybody on the old version when one engine refuses before anything was sent', async () => {
  await withMixed({}, async ({ vllm, primeRl, b, connect }) => {
    const before = await digestsOf(vllm);
    const session = await connect();
    await vllm.setFaults({ receive: { afterBroadcasts: 0, action: 'raise' } });
    const report = await failedReport(session.update(b));
    expect(report.outcome).toBe('failed');
    expect(states(report)).toEqual(['serving-old', 'serving-old']);
    expect(report.transfer?.bytes).toBe(0);
    expect(await digestsOf(vllm)).toEqual(before);
    // It was not even asked: it could not have left the receive.
    expect(await postsTo(primeRl)).not.toContain('/update_weights');
    expect(await isPaused(vllm.url)).toBe(false);
  });
});

it('lets those serve the new version who got all of it, when the other format fails in the middle', async () => {
  const fault: ReferenceFaults = { receive: { afterBroadcasts: 4, action: 'raise', worker: 1 } };
  await withMixed({ layers: 60, primeRl: fault }, async ({ vllm, b, connect }) => {
    const report = await failedReport((await connect({ fallback: 'filesystem' })).update(b));
    expect(report.outcome).toBe('quarantined');
    expect(states(report)).toEqual(['serving-new', 'quarantined']);
    expect(report.engines[0]?.proof).toMatchObject({ method: 'digest', mismatched: [] });
    expect(await isPaused(vllm.url)).toBe(false);
  });
});

it.each([
  ['prime-rl', ['serving-new', 'quarantined']],
  ['vllm', ['quarantined', 'serving-new']],
] as const)('%s hangs: the engines of the other format serve the new version', async (wire, expected) => {
  const hang: ReferenceFaults = { receive: { afterBroadcasts: 4, action: 'stall' } };
  const faults = wire === 'vllm' ? { vllm: hang } : { primeRl: hang };
  await withMixed({ layers: 60, ...faults }, async ({ vllm, primeRl, b, connect }) => {
    const report = await failedReport((await connect({ timeouts: { update: 12_000 } })).update(b));
    expect(report.outcome).toBe('quarantined');
    expect(states(report)).toEqual(expected);
    const paused = await Promise.all(
      [vllm, primeRl].map(async (engine) => (await engine.state()).paused !== null),
    );
    expect(paused).toEqual(expected.map((state) => state === 'quarantined'));
  });
});

it('sends to one wire format after the other: one device is not used from two threads', async () => {
  await withMixed({ layers: 60 }, async ({ b, connect }) => {
    const bytes: number[] = [];
    const session = await connect({
      onEvent: (event) => {
        if (event.kind === 'progress' && event.phase === 'transfer') bytes.push(event.bytes);
      },
    });
    const { transfer, weights } = await session.update(b);
    // vLLM's group has all of it before the other one gets its first byte.
    expect(bytes).toContain(weights.bytes);
    expect(bytes.at(-1)).toBe(transfer?.bytes);
  });
});

it('heals from disk the format that failed, where it loads a directory', async () => {
  const fault: ReferenceFaults = { receive: { afterBroadcasts: 2, action: 'raise' } };
  await withMixed({ layers: 60, vllm: fault }, async ({ b, connect }) => {
    const report = await (await connect({ fallback: 'filesystem' })).update(b);
    expect(report.outcome).toBe('updated');
    expect(report.engines.map(({ transport }) => transport)).toEqual(['filesystem', 'nccl']);
  });
});

it('refuses, before anybody is paused, what one of the backends cannot do', async () => {
  await withMixed({}, async ({ vllm, primeRl, b, connect }) => {
    const files = await connect({
      transport: 'filesystem',
      engines: [vllm.url, `prime-rl=${primeRl.url},workers=2,broadcast=nccl`],
    });
    const report = await failedReport(files.update(b));
    expect(report.error).toMatchObject({ code: 'WC_ENGINE_NOT_CONFIGURED', engine: primeRl.url });
    expect(report.error?.remedy).toContain('--transport nccl');

    const nccl = await connect({
      engines: [vllm.url, `prime-rl=${primeRl.url},workers=2,broadcast=filesystem`],
    });
    const other = await failedReport(nccl.update(b));
    expect(other.error).toMatchObject({ code: 'WC_ENGINE_NOT_CONFIGURED', engine: primeRl.url });
    for (const engine of [vllm, primeRl]) expect(await postsTo(engine)).not.toContain('/pause');
  });
});

it('needs no more ports than there are, each further group on the next one', async () => {
  await withMixed({}, async ({ b, connect }) => {
    const report = await failedReport((await connect({ masterPort: 65_535 })).update(b));
    expect(report.error).toMatchObject({ code: 'WC_CONFIG_INVALID' });
    expect(report.error?.message).toContain('--master-port 65535');
  });
});
