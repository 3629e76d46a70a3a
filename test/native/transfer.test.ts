import { createHash, randomBytes } from 'node:crypto';
import { truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { NativeCommunicator, NativePlan, NativeProgress } from '../../src/native.js';
import { makePlan, openRuntime, PeerProcess, type RangeSpec, withFolder, withGroup } from './support.js';

const sha256 = (...parts: readonly Uint8Array[]): string => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
};

const sizeOf = (frame: readonly RangeSpec[]): number =>
  frame.reduce((sum, range) => sum + ('host' in range ? range.host.length : range.length), 0);

/** Receives one broadcast a frame and gives the digest of all bytes. */
async function receive(receiver: NativeCommunicator, frames: readonly number[]): Promise<string> {
  const byteLength = frames.reduce((sum, length) => sum + length, 0);
  const buffer = await receiver.allocate(byteLength);
  let offset = 0;
  for (const length of frames) {
    await receiver.broadcast({ buffer, offset, byteLength: length, root: 0, timeoutMs: 10_000 });
    offset += length;
  }
  const [digest] = await buffer.sha256([{ offset: 0, byteLength }]);
  await buffer.free();
  return Buffer.from(digest!).toString('hex');
}

async function send(
  [sender, receiver]: readonly NativeCommunicator[],
  plan: NativePlan,
  frames: readonly (readonly RangeSpec[])[],
) {
  const transfer = await sender!.prepare(plan, 10_000);
  expect(transfer.framesIssued).toBe(0);
  const seen: NativeProgress[] = [];
  const [stats, digest] = await Promise.all([
    transfer.run(20_000, (progress) => seen.push(progress)),
    receive(receiver!, frames.map(sizeOf)),
  ]);
  expect(transfer.framesIssued).toBe(frames.length);
  await transfer.close();
  return { stats, digest, seen };
}

describe('a transfer', () => {
  it('sends frames cut across files, host bytes and device ranges, byte for byte', async () => {
    await withFolder(async (folder) => {
      const contents = [randomBytes(700_001), randomBytes(300_000)];
      const files = contents.map((bytes, index) => ({
        path: join(folder, `${index}`),
        size: bytes.length,
      }));
      await Promise.all(files.map((file, index) => writeFile(file.path, contents[index]!)));
      await withGroup(2, async (ranks) => {
        const held = randomBytes(5_000);
        const buffer = await ranks[0]!.allocate(held.length);
        await buffer.write(0, held);
        const hello = Buffer.from('hello');
        const frames: RangeSpec[][] = [
          [{ host: hello }],
          [
            { file: 0, offset: 600_000, length: 100_001 },
            { file: 1, offset: 0, length: 200_000 },
          ],
          [
            { file: 1, offset: 200_000, length: 100_000 },
            { device: 0, offset: 100, length: 4_900 },
            { host: hello },
            { file: 0, offset: 0, length: 600_000 },
          ],
          [{ device: 0, offset: 0, length: 100 }],
          [],
        ];
        const plan = makePlan(files, frames, { deviceBuffers: [buffer] });
        const { stats, digest } = await send(ranks, plan, frames);
        expect(digest).toBe(
          sha256(
            hello,
            contents[0]!.subarray(600_000),
            contents[1]!,
            held.subarray(100),
            hello,
            contents[0]!.subarray(0, 600_000),
            held.subarray(0, 100),
          ),
        );
        expect(stats.frames).toBe(5);
        expect(stats.bytes).toBe(1_005_011);
      });
    });
  });

  it('reuses its slots and pieces, for a second transfer too, and reports progress', async () => {
    await withFolder(async (folder) => {
      const bytes = randomBytes(4_000_000);
      const files = [{ path: join(folder, 'weights'), size: bytes.length }];
      await writeFile(files[0]!.path, bytes);
      const frames: RangeSpec[][] = Array.from({ length: 40 }, (_, index) => [
        { file: 0, offset: index * 100_000, length: 100_000 },
      ]);
      await withGroup(2, async (ranks) => {
        for (let round = 0; round < 2; ++round) {
          const { digest, seen } = await send(ranks, makePlan(files, frames, { slotBytes: 250_000 }), frames);
          expect(digest).toBe(sha256(bytes));
          expect(seen.at(-1)).toEqual({ framesSent: 40, bytesRead: 4_000_000, bytesSent: 4_000_000 });
        }
      });
    });
  });

  it('ends when a receiver dies in the middle, and says how many broadcasts were issued', async () => {
    const peer = new PeerProcess('die-in-broadcast=2');
    try {
      await withFolder(async (folder) => {
        const size = 96 << 20;
        const files = [{ path: join(folder, 'weights'), size }];
        await writeFile(files[0]!.path, '');
        await truncate(files[0]!.path, size);
        const frames: RangeSpec[][] = [0, 1, 2].map((index) => [
          { file: 0, offset: index * (32 << 20), length: 32 << 20 },
        ]);
        const runtime = await openRuntime();
        const sender = await runtime.communicator(0);
        const uniqueId = await runtime.uniqueId();
        await peer.call('open');
        await Promise.all([
          sender.init({ uniqueId, worldSize: 2, rank: 0, timeoutMs: 10_000 }),
          peer.call('join', { uniqueId: [...uniqueId], worldSize: 2, rank: 1, timeoutMs: 10_000 }),
        ]);
        const transfer = await sender.prepare(makePlan(files, frames, { pieceBytes: 4 << 20 }), 10_000);
        const received = peer.call('receive', { frames: frames.map(sizeOf), root: 0 });
        const died = expect(received).rejects.toThrow('the peer process ended');
        await expect(transfer.run(2_000, null)).rejects.toMatchObject({
          code: expect.stringMatching(/^WC_NCCL_(FAILED|TIMEOUT)$/),
        });
        await died;
        expect(transfer.framesIssued).toBeGreaterThanOrEqual(2);
        await sender.destroy(1_000);
      });
    } finally {
      await peer.kill();
    }
  });

  it('sends thousands of tiny frames, one broadcast each, to processes', async () => {
    const peers = [new PeerProcess(), new PeerProcess()];
    try {
      await withFolder(async (folder) => {
        const bytes = randomBytes(3_000 * 96);
        const files = [{ path: join(folder, 'weights'), size: bytes.length }];
        await writeFile(files[0]!.path, bytes);
        const frames: RangeSpec[][] = [];
        for (let offset = 0; offset < bytes.length; offset += 96)
          frames.push([{ file: 0, offset, length: 96 }]);
        await Promise.all(peers.map((peer) => peer.call('open')));
        const runtime = await openRuntime();
        const sender = await runtime.communicator(0);
        const uniqueId = await runtime.uniqueId();
        await Promise.all([
          sender.init({ uniqueId, worldSize: 3, rank: 0, timeoutMs: 10_000 }),
          ...peers.map((peer, index) =>
            peer.call('join', {
              uniqueId: [...uniqueId],
              worldSize: 3,
              rank: index + 1,
              timeoutMs: 10_000,
            }),
          ),
        ]);
        const transfer = await sender.prepare(makePlan(files, frames, { slotBytes: 64 * 1024 }), 10_000);
        const [stats, ...digests] = await Promise.all([
          transfer.run(20_000, null),
          ...peers.map((peer) => peer.call('receive', { frames: frames.map(sizeOf), root: 0 })),
        ]);
        expect(stats.frames).toBe(3_000);
        expect(digests).toEqual([sha256(bytes), sha256(bytes)]);
        await Promise.all([sender.destroy(5_000), ...peers.map((peer) => peer.call('leave'))]);
      });
    } finally {
      await Promise.all(peers.map((peer) => peer.kill()));
    }
  });

  it('refuses files that are missing or have another size, before anything is sent', async () => {
    await withFolder(async (folder) => {
      await withGroup(2, async ([sender]) => {
        const path = join(folder, 'weights');
        const frames: RangeSpec[][] = [[{ file: 0, offset: 0, length: 10 }]];
        await expect(sender!.prepare(makePlan([{ path, size: 10 }], frames), 10_000)).rejects.toMatchObject({
          code: 'WC_FILE_READ',
        });
        await writeFile(path, randomBytes(11));
        await expect(sender!.prepare(makePlan([{ path, size: 10 }], frames), 10_000)).rejects.toMatchObject({
          code: 'WC_CHECKPOINT_CHANGED',
        });
        expect(sender!.state).toBe('ready');
      });
    });
  });

  it('refuses a plan that contradicts itself', async () => {
    await withGroup(2, async ([sender]) => {
      const file = [{ path: '/dev/null', size: 10 }];
      const one: RangeSpec[][] = [[{ file: 0, offset: 0, length: 10 }]];
      for (const plan of [
        makePlan(file, [[{ file: 0, offset: 1, length: 10 }]]),
        makePlan(file, [[{ file: 1, offset: 0, length: 1 }]]),
        makePlan(file, one, { slotBytes: 9 }),
        makePlan(file, one, { slots: 1 }),
        makePlan(file, one, { frameRanges: Uint32Array.of(2) }),
        makePlan(file, one, { frameRanges: Uint32Array.of(0) }),
        makePlan(file, one, { rangeKind: Uint8Array.of(3) }),
        makePlan(file, one, { rangeLength: Float64Array.of(-1) }),
        makePlan(file, one, { rangeSource: Uint32Array.of() }),
      ]) {
        await expect(sender!.prepare(plan, 10_000)).rejects.toMatchObject({ code: 'WC_NATIVE_ARGUMENT' });
      }
    });
  });

  for (const [how, change] of [
    ['truncated', (path: string) => truncate(path, 3_000_000)],
    ['written to', (path: string) => utimes(path, new Date(), new Date())],
  ] as const) {
    it(`aborts when a file is ${how} before everything was read`, async () => {
      await withFolder(async (folder) => {
        const size = 4_000_000;
        const files = [{ path: join(folder, 'weights'), size }];
        await writeFile(files[0]!.path, randomBytes(size));
        const frames: RangeSpec[][] = Array.from({ length: 40 }, (_, index) => [
          { file: 0, offset: index * 100_000, length: 100_000 },
        ]);
        await withGroup(2, async ([sender, receiver]) => {
          const transfer = await sender!.prepare(makePlan(files, frames), 10_000);
          await change(files[0]!.path);
          const received = receive(receiver!, frames.map(sizeOf)).catch((error: Error) => error);
          await expect(transfer.run(10_000, null)).rejects.toMatchObject({
            code: 'WC_CHECKPOINT_CHANGED',
          });
          expect(sender!.state).toBe('aborted');
          expect(transfer.framesIssued).toBeLessThan(40);
          await receiver!.abort();
          expect(await received).toBeInstanceOf(Error);
        });
      });
    });
  }

  it('ends at its deadline when nobody receives, and says how far it came', async () => {
    await withFolder(async (folder) => {
      const size = 96 << 20;
      const files = [{ path: join(folder, 'weights'), size }];
      await writeFile(files[0]!.path, '');
      await truncate(files[0]!.path, size);
      await withGroup(2, async ([sender]) => {
        const frames: RangeSpec[][] = [0, 1, 2].map((index) => [
          { file: 0, offset: index * (32 << 20), length: 32 << 20 },
        ]);
        const transfer = await sender!.prepare(makePlan(files, frames, { pieceBytes: 4 << 20 }), 10_000);
        const start = performance.now();
        await expect(transfer.run(400, null)).rejects.toMatchObject({ code: 'WC_NCCL_TIMEOUT' });
        expect(performance.now() - start).toBeLessThan(1_400);
        expect(transfer.framesIssued).toBeGreaterThan(0);
        await transfer.close();
      });
    });
  });

  it('is closed unsent, once or twice, and cannot run afterwards', async () => {
    await withFolder(async (folder) => {
      const files = [{ path: join(folder, 'weights'), size: 1_000 }];
      await writeFile(files[0]!.path, randomBytes(1_000));
      await withGroup(2, async ([sender]) => {
        const transfer = await sender!.prepare(
          makePlan(files, [[{ file: 0, offset: 0, length: 1_000 }]]),
          10_000,
        );
        await transfer.close();
        await transfer.close();
        await expect(transfer.run(400, null)).rejects.toMatchObject({ code: 'WC_NATIVE_CLOSED' });
        expect(transfer.framesIssued).toBe(0);
        expect(sender!.state).toBe('ready');
      });
    });
  });
});
