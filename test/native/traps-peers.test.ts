// What other ranks do to this one (contracts/nccl.md 1.1, 2.1, 2.3, 2.4): every wait ends by its deadline, with an error that says what to do.
import { describe, expect, it } from 'vitest';
import type { NativeCommunicator } from '../../src/native.js';
import { joinPeers, openRuntime, PeerProcess, withGroup, withPeer } from './support.js';

/** NCCL and its emulation complete a small send before it is received. */
const TOO_LARGE_TO_BUFFER = 64 << 20;
/** A dead or missing rank costs a deadline, not more. Loose, for a busy machine: what fails to end at all lasts a minute. */
const SLACK_MS = 5_000;

async function within<T>(limitMs: number, work: Promise<T>): Promise<T> {
  const start = performance.now();
  try {
    return await work;
  } finally {
    expect(performance.now() - start).toBeLessThan(limitMs + SLACK_MS);
  }
}

async function failure(work: Promise<unknown>): Promise<Error> {
  const value = await work.catch((error: unknown) => error);
  if (value instanceof Error) return value;
  throw new Error('it did not fail');
}

async function sendLarge(communicator: NativeCommunicator, timeoutMs: number): Promise<Error> {
  const buffer = await communicator.allocate(TOO_LARGE_TO_BUFFER);
  const byteLength = TOO_LARGE_TO_BUFFER;
  return await within(
    timeoutMs,
    failure(communicator.broadcast({ buffer, offset: 0, byteLength, root: 0, timeoutMs })),
  );
}

describe('a rank that', () => {
  it('is missing ends an init at its deadline', async () => {
    await withPeer(new PeerProcess('missing-peer'), async (peer) => {
      const error = await within(700, failure(joinPeers([peer], 700)));
      expect(error).toMatchObject({
        code: 'WC_NCCL_TIMEOUT',
        message: expect.stringMatching(
          /communicator init did not end within 700 ms on rank [01] of 2: a rank does not take part$/,
        ),
        remedy: expect.stringContaining('look in the logs of the engines'),
      });
    });
  });

  it('comes late is waited for', async () => {
    await withPeer(new PeerProcess('init-delay=500'), async (peer) => {
      const start = performance.now();
      const communicator = await joinPeers([peer], 20_000);
      expect(performance.now() - start).toBeGreaterThanOrEqual(500);
      const [sum] = await Promise.all([
        communicator.allReduce(Float32Array.of(1), 10_000),
        peer.call('allReduce', { values: [2] }),
      ]);
      expect([...sum]).toEqual([3]);
      await Promise.all([communicator.destroy(5_000), peer.call('leave')]);
    });
  });

  it('is slow gets every byte in its own time', async () => {
    await withPeer(new PeerProcess('slow=40000000'), async (peer) => {
      const communicator = await joinPeers([peer]);
      const byteLength = 16 << 20;
      const buffer = await communicator.allocate(byteLength);
      const [digest] = await buffer.sha256([{ offset: 0, byteLength }]);
      const start = performance.now();
      const [received] = await Promise.all([
        peer.call('receive', { frames: [byteLength], root: 0, timeoutMs: 25_000 }),
        communicator.broadcast({ buffer, offset: 0, byteLength, root: 0, timeoutMs: 25_000 }),
      ]);
      expect(received).toBe(Buffer.from(digest!).toString('hex'));
      expect(performance.now() - start).toBeGreaterThan(350);
      await Promise.all([communicator.destroy(5_000), peer.call('leave')]);
    });
  });

  it('dies before a broadcast ends it for the sender at its deadline, and at once for the other receivers', async () => {
    await withPeer(new PeerProcess('die-before-broadcast=1'), async (doomed) => {
      await withPeer(new PeerProcess(), async (other) => {
        const communicator = await joinPeers([doomed, other]);
        const order = { frames: [TOO_LARGE_TO_BUFFER], root: 0, timeoutMs: 60_000 };
        const died = failure(doomed.call('receive', order));
        const cutOff = other.failure('receive', order);
        expect(await sendLarge(communicator, 1_000)).toMatchObject({
          code: 'WC_NCCL_TIMEOUT',
          message: expect.stringMatching(
            /^broadcast of 67108864 bytes did not end within 1000 ms on rank 0 of 3/,
          ),
        });
        expect((await died).message).toBe('the peer process ended');
        expect(await doomed.ended()).toBe(1);
        expect(await within(0, cutOff)).toMatchObject({
          code: 'WC_NCCL_FAILED',
          details: { ncclResult: 6 },
        });
        await communicator.destroy(1_000);
      });
    });
  });

  it('dies in a broadcast that it sends is noticed by the receiver long before the deadline', async () => {
    await withPeer(new PeerProcess('die-in-broadcast=1'), async (sender) => {
      const communicator = await joinPeers([sender]);
      await sender.call('allocate', { byteLength: TOO_LARGE_TO_BUFFER });
      const died = failure(sender.call('broadcast', { byteLength: TOO_LARGE_TO_BUFFER, root: 1 }));
      const byteLength = TOO_LARGE_TO_BUFFER;
      const buffer = await communicator.allocate(byteLength);
      const error = await within(
        1_000,
        failure(communicator.broadcast({ buffer, offset: 0, byteLength, root: 1, timeoutMs: 60_000 })),
      );
      expect(error).toMatchObject({
        code: 'WC_NCCL_FAILED',
        message: expect.stringContaining('Connection closed by remote peer'),
        remedy: expect.stringContaining("look at the engines' logs"),
        details: { ncclResult: 6, rank: 0, worldSize: 2 },
      });
      expect((await died).message).toBe('the peer process ended');
      expect(communicator.state).toBe('aborted');
      await communicator.destroy(1_000);
    });
  });

  it('dies after a broadcast is invisible until the next one, which ends at its deadline', async () => {
    await withPeer(new PeerProcess('die-after-broadcast=1'), async (peer) => {
      const communicator = await joinPeers([peer]);
      const buffer = await communicator.allocate(1_000);
      const died = failure(peer.call('receive', { frames: [1_000], root: 0 }));
      await communicator.broadcast({ buffer, offset: 0, byteLength: 1_000, root: 0, timeoutMs: 10_000 });
      await died;
      expect(await peer.ended()).toBe(1);
      expect(await communicator.asyncError()).toBe(0);
      expect(communicator.state).toBe('ready');
      expect(await sendLarge(communicator, 500)).toMatchObject({ code: 'WC_NCCL_TIMEOUT' });
      expect(await failure(communicator.asyncError())).toMatchObject({ code: 'WC_NCCL_ABORTED' });
      await communicator.destroy(1_000);
    });
  });

  it('was the root and is gone fails an init by name, before the deadline', async () => {
    const root = new PeerProcess();
    await root.call('open');
    const uniqueId = Uint8Array.from(Buffer.from((await root.call('uniqueId')) as string, 'hex'));
    await root.kill();
    const communicator = await (await openRuntime()).communicator(0);
    const init = communicator.init({ uniqueId, worldSize: 2, rank: 1, timeoutMs: 60_000 });
    expect(await within(2_000, failure(init))).toMatchObject({
      code: 'WC_NCCL_FAILED',
      message: expect.stringMatching(/^communicator init failed on rank 1 of 2: .*remote process exited/),
      details: { ncclResult: 6 },
    });
    await communicator.destroy(1_000);
  });

  it('runs another NCCL version is refused, with what to set', async () => {
    await withPeer(new PeerProcess('', { WEIGHTCAST_EMULATOR_NCCL_VERSION: '22803' }), async (peer) => {
      const error = await failure(joinPeers([peer]));
      expect(error).toMatchObject({
        code: 'WC_NCCL_FAILED',
        message: expect.stringContaining('Mismatched NCCL version detected'),
        remedy: expect.stringContaining('set WEIGHTCAST_NCCL_LIBRARY'),
        details: { ncclResult: 5 },
      });
    });
  });

  it('sits on the same GPU is refused, with what to change', async () => {
    await withPeer(new PeerProcess('', { WEIGHTCAST_EMULATOR_DUPLICATE_DEVICE: 'refuse' }), async (peer) => {
      expect(await failure(joinPeers([peer]))).toMatchObject({
        code: 'WC_NCCL_FAILED',
        remedy: expect.stringContaining('pass another --device'),
        details: { ncclResult: 5 },
      });
    });
  });

  it('expects another number of bytes waits until its own deadline; the sender learns nothing', async () => {
    await withPeer(new PeerProcess(), async (peer) => {
      const communicator = await joinPeers([peer]);
      const buffer = await communicator.allocate(1_000);
      const misled = peer.failure('receive', { frames: [2_000], root: 0, timeoutMs: 500 });
      await communicator.broadcast({ buffer, offset: 0, byteLength: 1_000, root: 0, timeoutMs: 10_000 });
      expect(await within(500, misled)).toMatchObject({
        code: 'WC_NCCL_TIMEOUT',
        details: { operation: 'broadcast of 2000 bytes', rank: 1 },
      });
      await communicator.destroy(1_000);
    });
  });
});

describe('a communicator', () => {
  it('whose asynchronous error shows up after a broadcast fails it, and ends by an abort', async () => {
    await withPeer(new PeerProcess('async-error=1,crash-on-reuse'), async (rank) => {
      await rank.call('open');
      await rank.call('initAlone');
      await rank.call('allocate', { byteLength: 100 });
      expect(await rank.failure('broadcast', { byteLength: 100 })).toMatchObject({
        code: 'WC_NCCL_FAILED',
        details: { ncclResult: 6 },
      });
      expect(await rank.call('state')).toBe('aborted');
      await rank.call('leave');
      expect(await rank.leave()).toBe(0);
    });
  });

  it('that is destroyed and aborted twice, in any order, uses nothing that was freed', async () => {
    await withPeer(new PeerProcess('crash-on-reuse'), async (rank) => {
      for (const order of [
        ['leave', 'leave'],
        ['leave', 'abort'],
        ['abort', 'leave'],
        ['abort', 'abort', 'leave', 'leave'],
      ]) {
        await rank.call('open');
        await rank.call('initAlone');
        for (const operation of order) await rank.call(operation);
      }
      await rank.call('open');
      await rank.failure('initAlone', { worldSize: 2, timeoutMs: 50 });
      await rank.call('abort');
      await rank.call('leave');
      expect(await rank.leave()).toBe(0);
    });
  });

  it('is destroyed at its deadline while a broadcast is unfinished', async () => {
    await withGroup(2, async ([sender]) => {
      const byteLength = TOO_LARGE_TO_BUFFER;
      const buffer = await sender!.allocate(byteLength);
      const unfinished = failure(
        sender!.broadcast({ buffer, offset: 0, byteLength, root: 0, timeoutMs: 600_000 }),
      );
      await within(300, sender!.destroy(300));
      expect(await unfinished).toMatchObject({ code: 'WC_NCCL_ABORTED' });
      expect(sender!.state).toBe('closed');
    });
  });

  it('that all ranks joined does not count towards the limit of those that were given up', async () => {
    await withPeer(new PeerProcess('leak-init'), async (rank) => {
      await rank.call('libraries');
      for (let round = 0; round < 70; ++round) {
        await rank.call('communicator');
        await rank.call('initAlone');
        await rank.call('leave');
      }
      await rank.call('uniqueId');
    });
  });

  it('whose id is asked for is refused, by a named limit, once the aborted inits of its process have left 64 threads behind', async () => {
    await withPeer(new PeerProcess('leak-init'), async (rank) => {
      await rank.call('libraries');
      const before = (await rank.call('threads')) as number;
      for (let round = 0; round < 64; ++round) await rank.call('abortInit');
      // The two helpers of `libraries` may have been ending still when they were counted.
      expect(await rank.call('threads')).toBeGreaterThanOrEqual(before + 62);
      const refused = await rank.failure('uniqueId');
      expect(refused).toMatchObject({
        code: 'WC_NATIVE_LIMIT',
        details: { strayRoots: 64, limit: 64 },
        remedy: expect.stringContaining('Restart this process'),
      });
      expect(refused.text).toContain('64 communicators of this process were given up');
    });
  });
});
