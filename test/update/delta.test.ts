import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { startReferenceEngine, writeTinyModel } from '../../src/testing/index.js';
import { writeChanged, writeTensor } from '../weights/changed.js';
import {
  answer,
  type Bench,
  digestsOf,
  digestsOfLoaded,
  failedReport,
  isPaused,
  post,
  postsTo,
  withBench,
} from './support.js';

const SPARSE = { engines: 2, workers: 2, weightTransfer: 'sparse_nccl' } as const;

/** `a` and `steps` versions after it, each 1 % of the elements away from the one before. */
async function stepsAfter({ a }: Bench, steps: number): Promise<string[]> {
  const versions = [a];
  for (let step = 1; step <= steps; step += 1) {
    const path = join(dirname(a), `delta-${step}`);
    await writeChanged(versions.at(-1) as string, path, { fraction: 0.01, seed: 7 * step });
    versions.push(path);
  }
  return versions;
}

/** A version after `a` in which one tensor was rewritten. */
async function rewritten({ a }: Bench, tensor: string, change: (bytes: Buffer) => void): Promise<string> {
  const path = join(dirname(a), 'rewritten');
  await writeChanged(a, path, { fraction: 0, seed: 1 });
  await writeTensor(path, tensor, change);
  return path;
}

async function spools(): Promise<string[]> {
  return (await readdir(tmpdir())).filter((name) => name.startsWith(`weightcast-delta-${process.pid}-`));
}

/** Of all engines, in their order; the last to be asked, since it changes them. */
async function expectHeld({ engines }: Bench, ...directories: readonly string[]): Promise<void> {
  const held = await Promise.all(engines.map(digestsOf));
  for (const [index, engine] of engines.entries()) {
    expect(held[index]).toEqual(await digestsOfLoaded(engine, directories[index] as string));
  }
}

test('deltas, one after the other, reach every byte of every worker, each proved, over one rendezvous', async () => {
  await withBench(SPARSE, async (bench) => {
    const versions = await stepsAfter(bench, 4);
    const fleet = await bench.connect({ verify: 'digest' });
    for (const [index, path] of versions.slice(1).entries()) {
      const deltaFrom = versions[index] as string;
      const report = await fleet.update(path, { deltaFrom, version: `step-${index}` });
      expect(report).toMatchObject({
        outcome: 'updated',
        transport: 'nccl',
        nccl: { reused: index > 0 },
        delta: { base: deltaFrom },
        engines: [
          { transport: 'nccl', weightVersion: `step-${index}`, proof: { method: 'digest', mismatched: [] } },
          { transport: 'nccl', weightVersion: `step-${index}`, proof: { method: 'digest', mismatched: [] } },
        ],
      });
      const { bytes, denseBytes, elements, ofElements } = report.delta!;
      expect(elements / ofElements).toBeGreaterThan(0.009);
      expect(bytes).toBe(6 * elements);
      expect(report.transfer!.bytes).toBe(bytes);
      expect(bytes / denseBytes).toBeLessThan(0.04);
      expect(await spools()).toEqual([]);
    }
    await expectHeld(bench, versions[4]!, versions[4]!);
  });
});

test('what a session gave to an engine it need not ask for again, as long as nobody else pushed to it', async () => {
  await withBench({ ...SPARSE, engines: 1 }, async (bench) => {
    const [engine] = bench.engines;
    const [a, one, two, three] = (await stepsAfter(bench, 3)) as [string, string, string, string];
    const checked = async () => (await postsTo(engine!)).filter((path) => path === '/weight_checker').length;
    const fleet = await bench.connect();
    await fleet.update(one, { deltaFrom: a });
    expect(await checked()).toBe(2); // the base, and what was received
    await fleet.update(two, { deltaFrom: one });
    expect(await checked()).toBe(2);

    // Another session takes it elsewhere, under no name that would tell.
    const other = await bench.connect();
    await other.update(bench.b, { deltaFrom: two }).catch(() => undefined);
    await (await bench.connect({ transport: 'filesystem', verify: 'none' })).update(bench.c);
    const report = await failedReport(fleet.update(three, { deltaFrom: two }));
    expect(report).toMatchObject({ outcome: 'failed', error: { code: 'WC_DELTA_BASE' }, pauseMs: null });
    await expectHeld(bench, bench.c);
  });
});

test('an unchanged model is an update that sends no byte, and records its version', async () => {
  await withBench(SPARSE, async (bench) => {
    const fleet = await bench.connect({ verify: 'digest' });
    const report = await fleet.update(bench.a, { deltaFrom: bench.a, version: 'again' });
    expect(report).toMatchObject({
      outcome: 'updated',
      transfer: { bytes: 0, frames: 2 },
      delta: { tensors: 0, elements: 0, bytes: 0 },
      engines: [{ weightVersion: 'again' }, { weightVersion: 'again' }],
    });
    await expectHeld(bench, bench.a, bench.a);
  });
});

test('engines that hold another version than the base are refused by name before anybody is paused', async () => {
  await withBench(SPARSE, async (bench) => {
    const [a, one] = (await stepsAfter(bench, 1)) as [string, string];
    await digestsOfLoaded(bench.engines[1]!, bench.c);
    const fleet = await bench.connect();
    const report = await failedReport(fleet.update(one, { deltaFrom: a }));
    expect(report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_DELTA_BASE', engine: bench.urls[1] },
      pauseMs: null,
      engines: [{ state: 'serving-old' }, { state: 'serving-old' }],
    });
    expect(report.error!.message).toContain('parameters are not the base');
    for (const engine of bench.engines) expect(await postsTo(engine)).not.toContain('/pause');
    expect(await spools()).toEqual([]);
    await expectHeld(bench, a, bench.c);
  });
});

test('with the fallback only they load the whole version from disk, and the others take the delta', async () => {
  await withBench(SPARSE, async (bench) => {
    const [a, one] = (await stepsAfter(bench, 1)) as [string, string];
    await digestsOfLoaded(bench.engines[1]!, bench.c);
    const fleet = await bench.connect({ fallback: 'filesystem' });
    const report = await fleet.update(one, { deltaFrom: a, version: 'one' });
    expect(report).toMatchObject({
      outcome: 'updated',
      engines: [
        { transport: 'nccl', weightVersion: 'one', proof: { method: 'digest', mismatched: [] } },
        { transport: 'filesystem', weightVersion: 'one', proof: { method: 'digest', mismatched: [] } },
      ],
    });
    for (const url of bench.urls) expect(await isPaused(url)).toBe(false);
    await expectHeld(bench, one, one);
  });
});

test('where nobody holds the base, all load the whole version from disk, or none is paused', async () => {
  await withBench(SPARSE, async (bench) => {
    const [, one, two] = (await stepsAfter(bench, 2)) as [string, string, string];
    const refused = await failedReport((await bench.connect()).update(two, { deltaFrom: one }));
    expect(refused).toMatchObject({ error: { code: 'WC_DELTA_BASE' }, pauseMs: null });
    const fleet = await bench.connect({ fallback: 'filesystem' });
    const report = await fleet.update(two, { deltaFrom: one });
    expect(report).toMatchObject({ outcome: 'updated', transport: 'filesystem', delta: null });
    expect(report.notes.join()).toContain('no delta (not known to hold the version');
    // The next one starts from what they were given.
    const next = await fleet.update(one, { deltaFrom: two });
    expect(next).toMatchObject({ outcome: 'updated', transport: 'nccl' });
    await expectHeld(bench, one, one);
  });
});

test('a weight version decides where the user says it: another one is not the base, and it is proof enough without a digest', async () => {
  await withBench({ ...SPARSE, version: '0.30.0' }, async (bench) => {
    const [a, one, two] = (await stepsAfter(bench, 2)) as [string, string, string];
    const fleet = await bench.connect();
    const unknown = await failedReport(fleet.update(one, { deltaFrom: a }));
    expect(unknown.error).toMatchObject({ code: 'WC_DELTA_BASE' });
    expect(unknown.error!.message).toContain('has no weight checker');
    for (const url of bench.urls) await post(url, '/update_weight_version', { new_version: 'zero' });
    const other = await failedReport(fleet.update(one, { deltaFrom: a, deltaFromVersion: 'other' }));
    expect(other.error!.message).toContain('it says weight version zero, not other');
    const report = await fleet.update(one, { deltaFrom: a, deltaFromVersion: 'zero', version: 'one' });
    expect(report).toMatchObject({ outcome: 'updated', engines: [{ proof: { method: 'fingerprint' } }, {}] });
    await fleet.update(two, { deltaFrom: one });
    await expectHeld(bench, two, two);
  });
});

test('an engine that missed one delta is not patched with the next', async () => {
  await withBench(SPARSE, async (bench) => {
    const [a, one, two, three] = (await stepsAfter(bench, 3)) as [string, string, string, string];
    const fleet = await bench.connect();
    await fleet.update(one, { deltaFrom: a });
    // Half of the tensors are patched when a worker raises: neither the old version nor the new one.
    await bench.engines[1]!.setFaults({ patch: { afterTensors: 12, action: 'raise', worker: 1 } });
    const missed = await failedReport(fleet.update(two, { deltaFrom: one }));
    expect(missed).toMatchObject({
      outcome: 'quarantined',
      engines: [{ state: 'serving-new' }, { state: 'quarantined' }],
    });
    await bench.engines[1]!.setFaults({});
    const next = await failedReport(fleet.update(three, { deltaFrom: two }));
    expect(next).toMatchObject({ error: { code: 'WC_DELTA_BASE', engine: bench.urls[1] } });
    expect(next.engines[0]).toMatchObject({ state: 'serving-old' });
    expect(await isPaused(bench.urls[1]!)).toBe(true);

    const healing = await bench.connect({ fallback: 'filesystem' });
    const healed = await healing.update(three, { deltaFrom: two });
    expect(healed).toMatchObject({
      outcome: 'updated',
      engines: [{ transport: 'nccl' }, { transport: 'filesystem', proof: { method: 'digest' } }],
    });
    await expectHeld(bench, three, three);
  });
});

test.each([
  ['is half-way in its tensors', { patch: { afterTensors: 12, action: 'raise' } }],
  ['stops receiving', { receive: { afterBroadcasts: 9, action: 'raise' } }],
  ['holds another bit afterwards', { corruptParameter: 'model.norm.weight' }],
] as const)('an engine that %s is healed from disk where that is allowed, and proved', async (_, faults) => {
  await withBench(SPARSE, async (bench) => {
    const [a, one] = (await stepsAfter(bench, 1)) as [string, string];
    const fleet = await bench.connect({
      fallback: 'filesystem',
      onEvent: (event) => {
        if (event.kind === 'phase' && event.phase === 'heal') void bench.engines[1]!.setFaults({});
      },
    });
    await bench.engines[1]!.setFaults(faults);
    const report = await fleet.update(one, { deltaFrom: a });
    expect(report.outcome).toBe('updated');
    expect(report.engines[1]).toMatchObject({ transport: 'filesystem', proof: { mismatched: [] } });
    for (const url of bench.urls) expect(await answer(url)).toBeInstanceOf(Array);
    await expectHeld(bench, one, one);
  });
});

test('a receiver that dies in the middle is out, and the others are healed by the base where only that may be loaded', async () => {
  await withBench(SPARSE, async (bench) => {
    const [a, one] = (await stepsAfter(bench, 1)) as [string, string];
    const fleet = await bench.connect({ recover: a, timeouts: { probe: 3_000, update: 20_000 } });
    await bench.engines[1]!.setFaults({ receive: { afterBroadcasts: 9, action: 'exit' } });
    const report = await failedReport(fleet.update(one, { deltaFrom: a }));
    expect(report.outcome).toBe('quarantined');
    expect(report.engines[1]!.state).toBe('quarantined');
    // The emulated library may have taken all of it before the other one died.
    expect(['serving-old', 'serving-new']).toContain(report.engines[0]!.state);
    const held = await digestsOf(bench.engines[0]!);
    const now = report.engines[0]!.state === 'serving-old' ? a : one;
    expect(held).toEqual(await digestsOfLoaded(bench.engines[0]!, now));
    expect(await spools()).toEqual([]);
  });
});

test('a receiver that stalls ends at the deadline: nobody serves a mixture', {
  timeout: 60_000,
}, async () => {
  await withBench({ ...SPARSE, layers: 20, receiveTimeoutMs: 8_000 }, async (bench) => {
    const path = join(dirname(bench.a), 'far');
    await writeChanged(bench.a, path, { fraction: 0.2, seed: 3 });
    const fleet = await bench.connect({ timeouts: { update: 2_000 } });
    await bench.engines[1]!.setFaults({ receive: { afterBroadcasts: 3, action: 'stall' } });
    const report = await failedReport(fleet.update(path, { deltaFrom: bench.a }));
    expect(report.outcome).toBe('quarantined');
    expect(report.engines[1]!.state).toBe('quarantined');
    expect(report.engines[0]!.state).not.toBe('serving-old');
    await bench.engines[1]!.reset();
  });
});

test('an engine that was restarted between two deltas holds its first weights again, and is told so', async () => {
  await withBench({ ...SPARSE, engines: 1, workers: 1 }, async (bench) => {
    const [a, one, two] = (await stepsAfter(bench, 2)) as [string, string, string];
    const fleet = await bench.connect();
    await fleet.update(one, { deltaFrom: a });
    const port = bench.engines[0]!.port;
    await bench.engines[0]!.close();
    await using again = await startReferenceEngine({ model: a, port, weightTransfer: 'sparse_nccl' });
    const report = await failedReport(fleet.update(two, { deltaFrom: one }));
    expect(report).toMatchObject({ outcome: 'failed', error: { code: 'WC_DELTA_BASE' }, pauseMs: null });
    const caughtUp = await fleet.update(two, { deltaFrom: a });
    expect(caughtUp).toMatchObject({ outcome: 'updated', nccl: { reused: false } });
    expect(await digestsOf(again)).toEqual(await digestsOfLoaded(again, two));
  });
});

test('an engine of another backend or version is refused by name before the pause, or loads from disk', async () => {
  await withBench(SPARSE, async (bench) => {
    const [a, one] = (await stepsAfter(bench, 1)) as [string, string];
    await using dense = await startReferenceEngine({ model: a });
    await using old = await startReferenceEngine({ model: a, version: '0.28.0' });
    for (const [stranger, words] of [
      [dense, 'it receives by the backend nccl'],
      [old, "vllm 0.28.0 takes no deltas in a checkpoint's own coordinates"],
    ] as const) {
      const fleet = await bench.connect({ engines: [bench.urls[0]!, stranger.url] });
      const report = await failedReport(fleet.update(one, { deltaFrom: a }));
      expect(report).toMatchObject({
        outcome: 'failed',
        error: { code: 'WC_ENGINE_NOT_CONFIGURED', engine: stranger.url },
        pauseMs: null,
      });
      expect(report.error!.message).toContain(words);
    }
    const mixed = await bench.connect({
      engines: [bench.urls[0]!, dense.url, old.url],
      fallback: 'filesystem',
    });
    expect(await mixed.update(one, { deltaFrom: a })).toMatchObject({
      outcome: 'updated',
      engines: [{ transport: 'nccl' }, { transport: 'filesystem' }, { transport: 'filesystem' }],
    });
    for (const engine of [dense, old])
      expect(await digestsOf(engine)).toEqual(await digestsOfLoaded(engine, one));
  });
});

test('an engine that lies about its backend refuses, and everybody keeps the old version', async () => {
  await withBench(SPARSE, async (bench) => {
    const [a, one] = (await stepsAfter(bench, 1)) as [string, string];
    await using dense = await startReferenceEngine({ model: a });
    const fleet = await bench.connect({
      engines: [bench.urls[0]!, `vllm=${dense.url},transfer=sparse_nccl`],
    });
    const report = await failedReport(fleet.update(one, { deltaFrom: a }));
    expect(report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_ENGINE_NOT_CONFIGURED', engine: dense.url },
      engines: [{ state: 'serving-old' }, { state: 'serving-old' }],
    });
    for (const url of [bench.urls[0]!, dense.url]) expect(await answer(url)).toBeInstanceOf(Array);
    await expectHeld({ ...bench, engines: bench.engines.slice(0, 1) }, a);
  });
});

test('whole weights are not sent by NCCL to engines that receive deltas only: said, they load from disk where allowed; unsaid, they refuse', async () => {
  await withBench({ ...SPARSE, engines: 1 }, async (bench) => {
    const said = `vllm=${bench.urls[0]},transfer=sparse_nccl`;
    const refused = await failedReport((await bench.connect({ engines: [said] })).update(bench.b));
    expect(refused).toMatchObject({ error: { code: 'WC_ENGINE_NOT_CONFIGURED' }, pauseMs: null });
    const unsaid = await failedReport((await bench.connect()).update(bench.b));
    expect(unsaid).toMatchObject({ outcome: 'failed', error: { code: 'WC_ENGINE_NOT_CONFIGURED' } });
    expect(unsaid.error!.remedy).toContain('--delta-from');
    const fleet = await bench.connect({ engines: [said], fallback: 'filesystem' });
    expect(await fleet.update(bench.b)).toMatchObject({ outcome: 'updated', transport: 'filesystem' });
    await expectHeld(bench, bench.b);
  });
});

test('what no delta can carry is told before the pause', async () => {
  await withBench({ ...SPARSE, engines: 1 }, async (bench) => {
    const fleet = await bench.connect();
    const refusal = async (path: string, deltaFrom = bench.a) => {
      const report = await failedReport(fleet.update(path, { deltaFrom }));
      expect(report).toMatchObject({ outcome: 'failed', pauseMs: null });
      expect(await spools()).toEqual([]);
      return report.error!;
    };
    expect(await refusal(bench.b)).toMatchObject({ code: 'WC_DELTA_TOO_LARGE' });
    const nan = await rewritten(bench, 'model.norm.weight', (bytes) => bytes.writeUInt16LE(0x7fc1, 10));
    expect((await refusal(nan)).message).toContain('new values that are NaN: model.norm.weight');
    const grown = join(dirname(bench.a), 'grown');
    await writeTinyModel(grown, { seed: 1, layers: 3 });
    expect(await refusal(grown)).toMatchObject({
      code: 'WC_DELTA_BASE',
      message: expect.stringContaining('model.layers.2.input_layernorm.weight is new'),
    });
    expect(await refusal(bench.a, grown)).toMatchObject({ message: expect.stringContaining(' is gone') });
    await expect(fleet.update(bench.b, { deltaFromVersion: 'x' })).rejects.toMatchObject({
      code: 'WC_CONFIG_INVALID',
    });
    await expectHeld(bench, bench.a);
  });
});

test('a delta that is larger than the model goes by disk where that is allowed', async () => {
  await withBench({ ...SPARSE, engines: 1 }, async (bench) => {
    const fleet = await bench.connect({ fallback: 'filesystem' });
    const report = await fleet.update(bench.b, { deltaFrom: bench.a });
    expect(report).toMatchObject({ outcome: 'updated', transport: 'filesystem', delta: null });
    expect(report.notes.join()).toContain('no delta (the delta is larger than the model');
    await expectHeld(bench, bench.b);
  });
});
