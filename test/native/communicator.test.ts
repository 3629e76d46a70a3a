import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { native } from '../../src/native.js';
import {
  joinPeers,
  libraries,
  longestStall,
  openRuntime,
  PeerProcess,
  withFolder,
  withGroup,
} from './support.js';

/** The emulation, with an abort that waits for somebody else's kernel. */
async function buildHangingNccl(folder: string): Promise<string> {
  const source = join(folder, 'hang.c');
  const library = join(folder, 'libhanging.so');
  await writeFile(
    source,
    '#include <unistd.h>\nint ncclCommAbort(void *comm) { sleep(20); return comm == 0; }\n',
  );
  await promisify(execFile)('cc', [
    '-shared',
    '-fPIC',
    '-o',
    library,
    source,
    '-Wl,--no-as-needed',
    libraries.nccl,
    `-Wl,-rpath,${dirname(libraries.nccl)}`,
  ]);
  return library;
}

/** Rank 0 here, the others in processes of their own. */
async function withPeers<T>(
  peers: readonly PeerProcess[],
  use: (communicator: Awaited<ReturnType<typeof joinPeers>>) => Promise<T>,
): Promise<T> {
  try {
    return await use(await joinPeers(peers));
  } finally {
    await Promise.all(peers.map((peer) => peer.kill()));
  }
}

/** NCCL and its emulation complete a small send before it is received. */
const tooLargeToBuffer = 64 << 20;

describe('a communicator', () => {
  it('joins processes, sums over them and broadcasts from any root', async () => {
    const peers = [new PeerProcess(), new PeerProcess()];
    await withPeers(peers, async (communicator) => {
      expect(communicator.state).toBe('ready');
      const sums = await Promise.all([
        communicator.allReduce(Float32Array.of(1, 0.5, -3), 10_000),
        ...peers.map((peer, index) => peer.call('allReduce', { values: [10 * (index + 1), 0.25, 3] })),
      ]);
      for (const sum of sums) expect([...(sum as Float32Array)]).toEqual([31, 1, 3]);

      const bytes = randomBytes(1_000_003);
      const buffer = await communicator.allocate(bytes.length);
      await buffer.write(0, bytes);
      const [, ...digests] = await Promise.all([
        communicator.broadcast({
          buffer,
          offset: 0,
          byteLength: bytes.length,
          root: 0,
          timeoutMs: 10_000,
        }),
        ...peers.map((peer) => peer.call('receive', { frames: [bytes.length], root: 0 })),
      ]);
      const expected = createHash('sha256').update(bytes).digest('hex');
      expect(digests).toEqual([expected, expected]);
      expect(await communicator.asyncError()).toBe(0);
      await Promise.all([communicator.destroy(5_000), ...peers.map((peer) => peer.call('leave'))]);
      expect(communicator.state).toBe('closed');
    });
  });

  it('gives up an init at its deadline, names the ranks, and keeps the event loop turning', async () => {
    const runtime = await openRuntime();
    const communicator = await runtime.communicator(0);
    const uniqueId = await runtime.uniqueId();
    const start = performance.now();
    const stall = await longestStall(() =>
      expect(communicator.init({ uniqueId, worldSize: 3, rank: 0, timeoutMs: 500 })).rejects.toMatchObject({
        code: 'WC_NCCL_TIMEOUT',
        details: { rank: 0, worldSize: 3, operation: 'communicator init' },
      }),
    );
    expect(performance.now() - start).toBeGreaterThanOrEqual(500);
    expect(performance.now() - start).toBeLessThan(1_500);
    expect(stall).toBeLessThan(250); // a busy machine; a call that blocked would take the 500
    expect(communicator.state).toBe('aborted');
    await expect(communicator.allReduce(Float32Array.of(1), 100)).rejects.toMatchObject({
      code: 'WC_NCCL_ABORTED',
    });
    await communicator.destroy(1_000);
  });

  it('aborts an init that waits for a peer', async () => {
    const runtime = await openRuntime();
    const communicator = await runtime.communicator(0);
    const uniqueId = await runtime.uniqueId();
    const pending = communicator.init({ uniqueId, worldSize: 2, rank: 0, timeoutMs: 60_000 });
    const outcome = expect(pending).rejects.toMatchObject({ code: 'WC_NCCL_ABORTED' });
    await expect.poll(() => communicator.state).toBe('initializing');
    const start = performance.now();
    await communicator.abort();
    await outcome;
    expect(performance.now() - start).toBeLessThan(1_000);
    expect(communicator.state).toBe('aborted');
    await communicator.abort();
    await communicator.destroy(1_000);
    await communicator.destroy(1_000);
    expect(communicator.state).toBe('closed');
  });

  it('ends a broadcast that nobody receives at its deadline', async () => {
    await withGroup(2, async ([sender]) => {
      const buffer = await sender!.allocate(tooLargeToBuffer);
      const start = performance.now();
      await expect(
        sender!.broadcast({ buffer, offset: 0, byteLength: tooLargeToBuffer, root: 0, timeoutMs: 400 }),
      ).rejects.toMatchObject({ code: 'WC_NCCL_TIMEOUT', details: { rank: 0, worldSize: 2 } });
      expect(performance.now() - start).toBeLessThan(1_400);
      expect(sender!.state).toBe('aborted');
    });
  });

  it('aborts a broadcast in flight', async () => {
    await withGroup(2, async ([sender]) => {
      const buffer = await sender!.allocate(tooLargeToBuffer);
      const pending = sender!.broadcast({
        buffer,
        offset: 0,
        byteLength: tooLargeToBuffer,
        root: 0,
        timeoutMs: 60_000,
      });
      const outcome = expect(pending).rejects.toMatchObject({ code: 'WC_NCCL_ABORTED' });
      await sender!.abort();
      await outcome;
    });
  });

  it('ends a receive whose sender was killed', async () => {
    const peer = new PeerProcess();
    await withPeers([peer], async (communicator) => {
      const buffer = await communicator.allocate(1 << 20);
      const pending = communicator.broadcast({
        buffer,
        offset: 0,
        byteLength: 1 << 20,
        root: 1,
        timeoutMs: 3_000,
      });
      const outcome = expect(pending).rejects.toMatchObject({
        code: expect.stringMatching(/^WC_NCCL_(FAILED|TIMEOUT)$/),
      });
      await peer.kill();
      await outcome;
      await communicator.destroy(1_000);
    });
  });

  it('leaves an abort that hangs behind, within its deadline, and says so', async () => {
    await withFolder(async (folder) => {
      const runtime = await native().open(libraries.cuda, await buildHangingNccl(folder));
      const communicator = await runtime.communicator(0);
      const uniqueId = await runtime.uniqueId();
      const start = performance.now();
      await expect(
        communicator.init({ uniqueId, worldSize: 2, rank: 0, timeoutMs: 300 }),
      ).rejects.toMatchObject({
        code: 'WC_NCCL_TIMEOUT',
        message: expect.stringContaining('ncclCommAbort has not returned'),
      });
      expect(performance.now() - start).toBeLessThan(1_300);
      await communicator.abort();
      await communicator.destroy(100);
      expect(performance.now() - start).toBeLessThan(3_000);
      expect(communicator.state).toBe('closed');
    });
  });

  it('works again after a failure, with a fresh unique id', async () => {
    const runtime = await openRuntime();
    const first = await runtime.communicator(0);
    await expect(
      first.init({ uniqueId: await runtime.uniqueId(), worldSize: 2, rank: 0, timeoutMs: 50 }),
    ).rejects.toMatchObject({ code: 'WC_NCCL_TIMEOUT' });
    await first.destroy(1_000);
    await withGroup(2, async (ranks) => {
      const sums = await Promise.all(ranks.map((rank) => rank.allReduce(Float32Array.of(2), 5_000)));
      expect(sums.map((sum) => sum[0])).toEqual([4, 4]);
    });
  });

  it('refuses work before init', async () => {
    const communicator = await (await openRuntime()).communicator(0);
    await expect(communicator.allReduce(Float32Array.of(1), 100)).rejects.toMatchObject({
      code: 'WC_NATIVE_ARGUMENT',
    });
    await communicator.destroy(1_000);
  });
});
