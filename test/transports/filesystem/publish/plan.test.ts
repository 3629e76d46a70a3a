import { describe, expect, it } from 'vitest';
import { shardNames } from '../../../../src/transports/filesystem/publish/names.js';
import { encodeIndex, planShards } from '../../../../src/transports/filesystem/publish/plan.js';
import { bytesNeeded } from '../../../../src/transports/filesystem/publish/space.js';
import type { Tensor } from '../../../../src/weights/tensor.js';
import { runToEnd } from '../../../../src/weights/yielding.js';
import { tensorOf } from '../../../weights/files.js';

const plan = (tensors: readonly Tensor[], shardBytes: number) => runToEnd(planShards(tensors, shardBytes));
const names = (tensors: readonly Tensor[], shardBytes: number) =>
  plan(tensors, shardBytes).shards.map((shard) => shard.tensors.map(({ tensor }) => tensor.name).join(' '));
/** A tensor of so many bytes. */
const u8 = (name: string, bytes: number) => tensorOf(name, 'U8', [bytes]);

describe('tensors', () => {
  it.each<[string, readonly Tensor[], number, readonly string[]]>([
    ['that fit into one file', [u8('a', 4), u8('b', 6)], 10, ['a b']],
    ['without a limit', [u8('a', 4), u8('b', 6)], Number.POSITIVE_INFINITY, ['a b']],
    ['of no bytes before a large one', [u8('a', 0), u8('b', 20)], 10, ['a b']],
    ['that go beyond it by one byte', [u8('a', 4), u8('b', 6)], 9, ['a', 'b']],
    ['that fill files exactly', [u8('a', 5), u8('b', 5), u8('c', 5), u8('d', 5)], 10, ['a b', 'c d']],
    ['larger than a file', [u8('a', 3), u8('b', 99), u8('c', 3)], 10, ['a', 'b', 'c']],
    ['of no bytes', [u8('a', 10), u8('b', 0), u8('c', 1)], 10, ['a b', 'c']],
    ['that begin with a large one', [u8('a', 99), u8('b', 1)], 10, ['a', 'b']],
    [
      'of layers in the order of their numbers',
      ['m.layers.10.w', 'm.layers.2.w', 'm.embed.w', 'm.layers.2.b'].map((name) => u8(name, 4)),
      8,
      ['m.embed.w m.layers.2.b', 'm.layers.2.w m.layers.10.w'],
    ],
    [
      'with larger elements first in their file, and otherwise as they are loaded',
      [u8('a', 3), tensorOf('b', 'F32', [1]), tensorOf('c', 'BF16', [1]), tensorOf('d', 'F32', [2])],
      1000,
      ['b d c a'],
    ],
  ])('%s are cut as expected', (_, tensors, shardBytes, expected) => {
    expect(names(tensors, shardBytes)).toEqual(expected);
  });

  it('follow their header and one another without a hole, each aligned to its elements', () => {
    const { shards, totalBytes } = plan(
      [u8('a', 3), tensorOf('b', 'F64', [1]), tensorOf('c', 'BF16', [3]), u8('0', 0)],
      1000,
    );
    expect(totalBytes).toBe(17);
    const [shard] = shards;
    let end = shard?.header.length ?? 0;
    expect(end % 8).toBe(0);
    for (const { tensor, offset } of shard?.tensors ?? []) {
      expect(offset).toBe(end);
      expect(offset % (tensor.dtype.bits / 8)).toBe(0);
      end += tensor.range.byteLength;
    }
    expect(shard?.byteLength).toBe(end);
  });

  it('have a header that says format pt and their places, names that are numbers in their order too', () => {
    const [shard] = plan([u8('b', 2), u8('7', 3)], 1000).shards;
    const header = shard?.header ?? Buffer.alloc(8);
    expect(header.readBigUInt64LE()).toBe(BigInt(header.length - 8));
    const json = header.toString('utf8', 8).trimEnd();
    expect(json).toBe(
      '{"__metadata__":{"format":"pt"},"7":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},' +
        '"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}',
    );
  });

  it.each<[string, string, readonly Tensor[]]>([
    ['none', 'WC_CHECKPOINT_INVALID', []],
    ['two of one name', 'WC_CHECKPOINT_INVALID', [u8('a', 1), u8('a', 1)]],
    ['one with a line feed in its name', 'WC_TENSOR_UNSENDABLE', [u8('a\nb', 1)]],
    ['one called as the metadata is', 'WC_TENSOR_UNSENDABLE', [u8('__metadata__', 1)]],
  ])('of which there is %s are refused', (_, code, tensors) => {
    expect(() => plan(tensors, 10)).toThrow(expect.objectContaining({ code }));
  });
});

describe('files', () => {
  it.each<[number, string | null, readonly string[]]>([
    [1, null, ['model.safetensors']],
    [2, null, ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']],
    [1, 'ab', ['model-ab-00001-of-00001.safetensors']],
  ])('%i with nonce %s are called %s', (count, nonce, expected) => {
    expect(shardNames(count, nonce)).toEqual(expected);
  });

  it('have an index as Hugging Face writes it', () => {
    const planned = plan([u8('b', 8), u8('a', 8), u8('é', 1)], 8);
    const index = runToEnd(encodeIndex(planned, shardNames(3, null))).toString();
    expect(JSON.parse(index)).toEqual({
      metadata: { total_size: 17 },
      weight_map: {
        a: 'model-00001-of-00003.safetensors',
        b: 'model-00002-of-00003.safetensors',
        é: 'model-00003-of-00003.safetensors',
      },
    });
  });

  it('need whole blocks, and a manifest', () => {
    const manifest = 65_536 + 2 * 400;
    expect(bytesNeeded({ files: [1, 4096, 4097], tensors: 2 }, 4096)).toBe(
      4 * 4096 + Math.ceil(manifest / 4096) * 4096,
    );
  });
});
