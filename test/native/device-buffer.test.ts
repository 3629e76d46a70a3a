import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { NativeCommunicator } from '../../src/native.js';
import { openRuntime, PeerProcess } from './support.js';

async function withCommunicator(use: (communicator: NativeCommunicator) => Promise<void>): Promise<void> {
  const communicator = await (await openRuntime()).communicator(0);
  try {
    await use(communicator);
  } finally {
    await communicator.destroy(1_000);
  }
}

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

describe('a device buffer', () => {
  it('gives back what was written, and its digest, across its bounce buffers', async () => {
    await withCommunicator(async (communicator) => {
      const bytes = randomBytes((9 << 20) + 13);
      const buffer = await communicator.allocate(bytes.length);
      expect(buffer.byteLength).toBe(bytes.length);
      await buffer.write(0, bytes);
      expect(sha256(await buffer.read(0, bytes.length))).toEqual(sha256(bytes));
      await buffer.write(5_000_000, Uint8Array.of(1, 2, 3));
      bytes.set([1, 2, 3], 5_000_000);
      expect([...(await buffer.read(4_999_999, 5))]).toEqual([...bytes.subarray(4_999_999, 5_000_004)]);
      const digests = await buffer.sha256([
        { offset: 0, byteLength: bytes.length },
        { offset: 7, byteLength: 0 },
        { offset: 4_000_001, byteLength: 4_500_000 },
      ]);
      expect(digests.map((digest) => Buffer.from(digest))).toEqual([
        sha256(bytes),
        sha256(new Uint8Array()),
        sha256(bytes.subarray(4_000_001, 8_500_001)),
      ]);
    });
  });

  it('packs strided blocks of another buffer', async () => {
    await withCommunicator(async (communicator) => {
      const rows = Uint8Array.from({ length: 24 }, (_, index) => index);
      const source = await communicator.allocate(24);
      await source.write(0, rows);
      const target = await communicator.allocate(10);
      await target.copyFrom(source, {
        sourceOffset: 2,
        blockBytes: 2,
        strideBytes: 6,
        count: 4,
        targetOffset: 1,
      });
      expect([...(await target.read(1, 8))]).toEqual([2, 3, 8, 9, 14, 15, 20, 21]);
      await expect(
        target.copyFrom(source, {
          sourceOffset: 4,
          blockBytes: 4,
          strideBytes: 6,
          count: 4,
          targetOffset: 0,
        }),
      ).rejects.toMatchObject({ code: 'WC_NATIVE_ARGUMENT' });
    });
  });

  it('is opened by another process, which sees what is written later too', async () => {
    const peer = new PeerProcess();
    try {
      await peer.call('open');
      await withCommunicator(async (communicator) => {
        const bytes = randomBytes(3 << 20);
        const buffer = await communicator.allocate(bytes.length);
        await buffer.write(0, bytes);
        const handle = await buffer.ipcHandle();
        expect(handle).toHaveLength(64);
        const argument = { handle: [...handle], byteLength: bytes.length };
        expect(await peer.call('digestOfShared', argument)).toBe(sha256(bytes).toString('hex'));
        bytes.fill(7, 1000, 2_000_000);
        await buffer.write(1000, bytes.subarray(1000, 2_000_000));
        expect(await peer.call('digestOfShared', argument)).toBe(sha256(bytes).toString('hex'));
        expect(sha256(await buffer.read(0, bytes.length))).toEqual(sha256(bytes));

        await expect(
          peer.call('digestOfShared', { ...argument, byteLength: bytes.length + 1 }),
        ).rejects.toThrow(
          'WC_NATIVE_ARGUMENT: the handle names an allocation of 3145728 bytes, not of 3145729',
        );
        await buffer.free();
        await expect(peer.call('digestOfShared', argument)).rejects.toThrow('WC_CUDA_FAILED');
      });
    } finally {
      await peer.kill();
    }
  });

  it('refuses handles that are none', async () => {
    await withCommunicator(async (communicator) => {
      await expect(communicator.openIpc(new Uint8Array(63), 1)).rejects.toMatchObject({
        code: 'WC_NATIVE_ARGUMENT',
      });
      await expect(communicator.openIpc(new Uint8Array(64), 1)).rejects.toMatchObject({
        code: 'WC_CUDA_FAILED',
      });
    });
  });

  it('is closed by free and by the end of its communicator', async () => {
    await withCommunicator(async (communicator) => {
      const freed = await communicator.allocate(16);
      await freed.free();
      await freed.free();
      await expect(freed.read(0, 1)).rejects.toMatchObject({ code: 'WC_NATIVE_CLOSED' });
      const kept = await communicator.allocate(16);
      await communicator.destroy(1_000);
      await expect(kept.read(0, 1)).rejects.toMatchObject({ code: 'WC_NATIVE_CLOSED' });
      await kept.free();
    });
  });
});
