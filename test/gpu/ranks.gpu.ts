/** One to four ranks on one GPU, through real NCCL. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withRanks } from '../../bench/gpu/rank/process.js';
import { onGpu } from './support.js';

const MIB = 2 ** 20;

onGpu('one rank joins, sends to itself and leaves', ({ facts }) =>
  withRanks(1, {}, async ([root]) => {
    assert.ok(facts.ncclVersion >= 21_800);
    const buffer = await root.call('allocate', { byteLength: 8 * MIB });
    const digest = await root.call('fill', { buffer, digest: true });
    await root.call('broadcast', { buffer, offset: 0, byteLength: 8 * MIB, timeoutMs: 30_000 });
    assert.equal(await root.call('digest', { buffer, byteLength: 8 * MIB }), digest);
    assert.equal(await root.call('asyncError', null), 0);
    await root.call('leave', null);
  }),
);

for (const sharing of ['hosts', 'multi-rank'] as const) {
  for (const ranks of [2, 4]) {
    onGpu(
      `a file reaches ${ranks - 1} other ranks byte for byte (${sharing})`,
      async ({ sharings }, context) => {
        if (!sharings.includes(sharing)) {
          context.skip(`SKIPPED: ranks can't share a GPU by ${sharing} with this libnccl`);
          return;
        }
        const folder = await mkdtemp(join(tmpdir(), 'weightcast-gpu-'));
        try {
          const bytes = randomBytes(40 * MIB + 12_345);
          const path = join(folder, 'weights');
          await writeFile(path, bytes);
          const expected = createHash('sha256').update(bytes).digest('hex');
          await withRanks(ranks, { sharing }, async ([root, ...receivers]) => {
            for (const frameBytes of [7 * MIB + 1, 64 * MIB]) {
              const received = receivers.map(async (rank) => {
                const buffer = await rank.call('allocate', { byteLength: bytes.length });
                const order = { byteLength: bytes.length, frameBytes, keep: true, timeoutMs: 60_000 };
                await rank.call('receive', { ...order, buffer });
                return rank.call('digest', { buffer, byteLength: bytes.length });
              });
              const stats = await root.call('transfer', {
                source: { kind: 'file', path, byteLength: bytes.length },
                frameBytes,
                rangeBytes: 3 * MIB,
                timeoutMs: 60_000,
              });
              assert.equal(stats.bytes, bytes.length);
              assert.deepEqual(
                await Promise.all(received),
                receivers.map(() => expected),
              );
            }
            await Promise.all([root, ...receivers].map((rank) => rank.call('leave', null)));
          });
        } finally {
          await rm(folder, { recursive: true, force: true });
        }
      },
    );
  }
}
