// Calls that never return (contracts/nccl.md 2.4, 8.8): whoever waits gets an error that names the call by his deadline, and neither close
// nor exit waits for it.
import { describe, expect, it } from 'vitest';
import { PeerProcess, withPeer } from './support.js';

/** So long may a call last where nobody set a deadline. */
const CALL_LIMIT_MS = 800;
/** Loose, for a busy machine: what is not ended at all hangs for good. */
const SLACK_MS = 5_000;

const STUCK = 'WC_NATIVE_STUCK';

/** An operation of rank.mjs, after those that lead to it. */
interface Hang {
  readonly call: string;
  readonly before: readonly (readonly [string, Record<string, unknown>?])[];
  readonly operation: string;
  readonly argument?: Record<string, unknown>;
}

const LIBRARIES = ['libraries', { callLimitMs: CALL_LIMIT_MS }] as const;
const OPEN = ['open', { callLimitMs: CALL_LIMIT_MS }] as const;
/** The libraries have their usual limit of a minute: only the deadline of the operation can end it. */
const OPEN_PATIENTLY = ['open'] as const;
const ALLOCATE = ['allocate', { byteLength: 4_096 }] as const;

const byTheCallLimit: readonly Hang[] = [
  { call: 'cuInit', before: [], operation: 'libraries', argument: { callLimitMs: CALL_LIMIT_MS } },
  { call: 'cuMemGetInfo', before: [LIBRARIES], operation: 'memory' },
  { call: 'ncclGetUniqueId', before: [LIBRARIES], operation: 'uniqueId' },
  { call: 'cuDevicePrimaryCtxRetain', before: [LIBRARIES], operation: 'communicator' },
  { call: 'cuStreamCreate', before: [LIBRARIES], operation: 'communicator' },
  { call: 'cuMemAlloc', before: [OPEN], operation: 'allocate', argument: { byteLength: 4_096 } },
  { call: 'cuMemHostAlloc', before: [OPEN, ALLOCATE], operation: 'write' },
  { call: 'cuMemcpyHtoDAsync', before: [OPEN, ALLOCATE], operation: 'write' },
  { call: 'cuMemcpyDtoHAsync', before: [OPEN, ALLOCATE], operation: 'read' },
  { call: 'cuEventQuery', before: [OPEN, ALLOCATE], operation: 'read' },
];

const byTheDeadline: readonly Hang[] = [
  {
    call: 'cuMemHostAlloc',
    before: [OPEN_PATIENTLY],
    operation: 'prepare',
    argument: { byteLength: 65_536, timeoutMs: 200 },
  },
  {
    call: 'ncclCommInitRankConfig',
    before: [OPEN_PATIENTLY],
    operation: 'initAlone',
    argument: { timeoutMs: 200 },
  },
  {
    call: 'ncclCommGetAsyncError',
    before: [OPEN_PATIENTLY],
    operation: 'initAlone',
    argument: { timeoutMs: 200 },
  },
  {
    call: 'ncclBroadcast',
    before: [OPEN_PATIENTLY, ['initAlone'], ALLOCATE],
    operation: 'broadcast',
    argument: { byteLength: 4_096, timeoutMs: 200 },
  },
];

/** Before there is a communicator. */
const byTheCaller: readonly Hang[] = [
  {
    call: 'cuMemGetInfo',
    before: [['libraries']],
    operation: 'memory',
    argument: { timeoutMs: 200 },
  },
  {
    call: 'ncclGetUniqueId',
    before: [['libraries']],
    operation: 'uniqueId',
    argument: { timeoutMs: 200 },
  },
  {
    call: 'cuDevicePrimaryCtxRetain',
    before: [['libraries']],
    operation: 'communicator',
    argument: { timeoutMs: 200 },
  },
];

async function within<T>(limitMs: number, work: Promise<T>): Promise<T> {
  const start = performance.now();
  const value = await work;
  expect(performance.now() - start).toBeLessThan(limitMs + SLACK_MS);
  return value;
}

async function prepare(rank: PeerProcess, before: Hang['before']): Promise<void> {
  for (const [operation, argument] of before) await rank.call(operation, argument);
}

describe('a call that never returns', () => {
  for (const { call, before, operation, argument } of byTheCallLimit) {
    it(`ends ${operation} at the limit of calls, by its name: ${call}`, async () => {
      await withPeer(new PeerProcess(`hang=${call}`), async (rank) => {
        await prepare(rank, before);
        const error = await within(CALL_LIMIT_MS, rank.failure(operation, argument));
        expect(error).toMatchObject({ code: STUCK, details: { call } });
        expect(error.text).toMatch(new RegExp(`^${call} has not returned for \\d+ ms`));
        expect(error.remedy).toContain('The driver or the GPU hangs');
        expect(await within(0, rank.leave())).toBe(0);
      });
    });
  }

  for (const { call, before, operation, argument } of byTheDeadline) {
    it(`ends ${operation} at its own deadline: ${call}`, async () => {
      await withPeer(new PeerProcess(`hang=${call}`), async (rank) => {
        await prepare(rank, before);
        const error = await within(200, rank.failure(operation, argument));
        expect(error).toMatchObject({ code: STUCK, details: { call } });
        expect(await rank.call('state')).toBe('failed');
        // What comes later is refused at once, for the same reason; an end is an end.
        expect(await within(0, rank.failure('allocate', { byteLength: 1 }))).toMatchObject({ code: STUCK });
        await within(0, rank.call('abort'));
        await within(0, rank.call('leave'));
        expect(await rank.call('state')).toBe('closed');
        expect(await within(0, rank.leave())).toBe(0);
      });
    });
  }

  for (const { call, before, operation, argument } of byTheCaller) {
    it(`ends ${operation} when its caller has waited long enough: ${call}`, async () => {
      await withPeer(new PeerProcess(`hang=${call}`), async (rank) => {
        await prepare(rank, before);
        const error = await within(200, rank.failure(operation, argument));
        expect(error).toMatchObject({ code: STUCK, details: { call } });
        expect(await within(0, rank.leave())).toBe(0);
      });
    });
  }

  it('ends a transfer at its deadline when it is a copy, not a call', async () => {
    await withPeer(new PeerProcess('hang-in-copy=1'), async (rank) => {
      await rank.call('open');
      const error = await within(200, rank.failure('prepare', { byteLength: 65_536, timeoutMs: 1_000 }));
      expect(error).toMatchObject({ code: STUCK, text: 'a copy on device 0 did not end within 1000 ms' });
      await within(0, rank.call('abort'));
      expect(await within(0, rank.leave())).toBe(0);
    });
  });

  it('does not hold up a destroy that frees memory: cuMemFree', async () => {
    await withPeer(new PeerProcess('hang=cuMemFree'), async (rank) => {
      await prepare(rank, [OPEN_PATIENTLY, ['initAlone'], ALLOCATE]);
      await within(200, rank.call('leave', { timeoutMs: 200 }));
      expect(await rank.call('state')).toBe('closed');
      expect(await within(0, rank.leave())).toBe(0);
    });
  });

  it('does not hold up an abort: cuMemFree, called by free', async () => {
    await withPeer(new PeerProcess('hang=cuMemFree'), async (rank) => {
      await prepare(rank, [OPEN_PATIENTLY, ['initAlone'], ALLOCATE]);
      const freed = rank.call('free');
      await within(1_000, rank.call('abort'));
      await within(0, freed);
      expect(await within(0, rank.failure('asyncError'))).toMatchObject({ code: STUCK });
      expect(await within(0, rank.leave())).toBe(0);
    });
  });

  for (const call of ['ncclCommFinalize', 'ncclCommDestroy']) {
    it(`does not hold up a destroy: ${call}`, async () => {
      await withPeer(new PeerProcess(`hang=${call}`), async (rank) => {
        await prepare(rank, [OPEN_PATIENTLY, ['initAlone']]);
        await within(200, rank.call('leave', { timeoutMs: 200 }));
        expect(await within(0, rank.leave())).toBe(0);
      });
    });
  }

  it('is told beside the timeout that led to it: ncclCommAbort', async () => {
    await withPeer(new PeerProcess('hang=ncclCommAbort'), async (rank) => {
      await rank.call('open');
      const error = await within(200, rank.failure('initAlone', { worldSize: 2, timeoutMs: 200 }));
      expect(error.code).toBe('WC_NCCL_TIMEOUT');
      expect(error.text).toContain('ncclCommAbort has not returned either');
      expect(await within(1_000, rank.leave())).toBe(0);
    });
  });

  it('does not hold up the end of the process while somebody still waits for it', async () => {
    await withPeer(new PeerProcess('hang=cuMemAlloc'), async (rank) => {
      await rank.call('open');
      void rank.call('allocate', { byteLength: 4_096 }).catch(() => undefined);
      await within(
        0,
        rank.call('exit').catch(() => undefined),
      );
      expect(await within(3_000, rank.ended())).toBe(9);
    });
  });
});
