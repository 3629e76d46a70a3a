/** The traps of contracts/nccl.md §2, on real NCCL: each ends within its deadline, and the process can go on. */
import assert from 'node:assert/strict';
import { joinAll, ncclEnvironment, RankError, RankProcess, withRanks } from '../../bench/gpu/rank/process.js';
import { onGpu } from './support.js';

const MIB = 2 ** 20;
/** What an operation may take beyond its deadline (law 2). */
const GRACE_MS = 1_000;

async function open(rank: number): Promise<RankProcess> {
  const process = new RankProcess(ncclEnvironment(rank, 'hosts'));
  await process.call('open', { device: 0 });
  return process;
}

async function failsWithin(limitMs: number, code: string, work: Promise<unknown>): Promise<void> {
  const began = performance.now();
  await assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof RankError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  });
  const took = performance.now() - began;
  assert.ok(took < limitMs, `it took ${took.toFixed(0)} ms, not ${limitMs}`);
}

onGpu('an init whose peer never comes ends at its deadline, and the next group stands', async () => {
  const [first, second] = await Promise.all([open(0), open(1)]);
  try {
    const uniqueId = await first.call('uniqueId', null);
    await failsWithin(
      2_000 + GRACE_MS,
      'WC_NCCL_TIMEOUT',
      first.call('join', { uniqueId, worldSize: 2, rank: 0, timeoutMs: 2_000 }),
    );
    await first.call('leave', null);
    await first.call('open', { device: 0 });
    await joinAll([first, second], 60_000);
  } finally {
    await Promise.all([first.kill(), second.kill()]);
  }
});

onGpu('a broadcast that nobody receives ends at its deadline', () =>
  withRanks(2, {}, async ([root]) => {
    const buffer = await root.call('allocate', { byteLength: 512 * MIB });
    await failsWithin(
      3_000 + GRACE_MS,
      'WC_NCCL_TIMEOUT',
      root.call('broadcast', { buffer, offset: 0, byteLength: 512 * MIB, timeoutMs: 3_000 }),
    );
  }),
);

onGpu(
  'a rank that is killed in mid-transfer: an abort frees the others, and a fresh group stands',
  async () => {
    await withRanks(3, {}, async ([root, survivor, victim]) => {
      assert.ok(survivor !== undefined && victim !== undefined);
      const byteLength = 1024 * MIB;
      const buffer = await root.call('allocate', { byteLength: 64 * MIB });
      const target = await survivor.call('allocate', { byteLength: 64 * MIB });
      const doomed = await victim.call('allocate', { byteLength: 64 * MIB });
      const order = { byteLength, frameBytes: 64 * MIB, keep: false, timeoutMs: 60_000 };
      const sending = root.call('receive', { ...order, buffer });
      const receiving = survivor.call('receive', { ...order, buffer: target });
      const dying = victim.call('receive', { ...order, buffer: doomed }).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 100));
      const began = performance.now();
      await victim.kill();
      const ends = Promise.allSettled([sending, receiving]);
      await Promise.all([root.call('abort', null), survivor.call('abort', null)]);
      const settled = await ends;
      const took = performance.now() - began;
      await dying;
      assert.ok(
        settled.some(({ status }) => status === 'rejected'),
        'the transfer ended before the kill: make it longer',
      );
      assert.ok(took < 3_000, `${took.toFixed(0)} ms until everybody was free`);
    });
    const fresh = await Promise.all([open(0), open(1), open(2)]);
    try {
      await joinAll(fresh, 60_000);
    } finally {
      await Promise.all(fresh.map((rank) => rank.kill()));
    }
  },
);

onGpu('more device memory than there is is refused by name', () =>
  withRanks(1, {}, ([root]) =>
    failsWithin(30_000, 'WC_CUDA_OUT_OF_MEMORY', root.call('allocate', { byteLength: 2 ** 44 })),
  ),
);
