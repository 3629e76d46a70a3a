import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planWire, type WirePlan } from '../../../../src/transports/nccl/wire/plan.js';
import { pickleMetadata } from '../../../../src/transports/nccl/wire/prime-rl-metadata.js';
import { DTYPES } from '../../../../src/weights/dtype.js';
import { moduleOf, orderForLoading } from '../../../../src/weights/order.js';
import type { Tensor } from '../../../../src/weights/tensor.js';
import { tensorOf } from '../../../weights/files.js';
import { loads, receivePrimeRl } from './prime-rl-receiver.js';

const packing = (bufferBytes: number) => ({ bufferBytes, numBuffers: 2 });
const plan = (tensors: readonly Tensor[], bufferBytes: number | null = null) =>
  planWire(tensors, bufferBytes === null ? null : packing(bufferBytes), 'prime-rl');

/** Bits are all that a receiver knows of a dtype. */
const itemSize = (torchName: string) => {
  const dtype = [...DTYPES.values()].find((known) => known.torchName === torchName);
  if (dtype === undefined) throw new Error(`no ${torchName}`);
  return dtype.bits / 8;
};

/** A file in which every place has its own byte, so that a wrong range shows. */
const content = (offset: number, byteLength: number) =>
  Buffer.from(Array.from({ length: byteLength }, (_, i) => ((offset + i) * 131) % 251));

/** What leaves rank 0, frame by frame. */
function bytesOf({ frames }: WirePlan): Buffer[] {
  return frames.map(({ ranges, byteLength }) => {
    const bytes = Buffer.concat(
      ranges.map((range) => {
        if (range.kind === 'host') return range.bytes;
        if (range.kind === 'file') return content(range.offset, range.byteLength);
        throw new Error('no device here');
      }),
    );
    expect(bytes.length).toBe(byteLength);
    return bytes;
  });
}

const receive = (made: WirePlan) => receivePrimeRl(bytesOf(made), itemSize);

/** Tensors one behind the other in one file. */
function inOneFile(
  list: readonly (readonly [name: string, dtype: string, shape: readonly number[]])[],
): Tensor[] {
  let offset = 0;
  return list.map(([name, dtype, shape]) => {
    const tensor = tensorOf(name, dtype, shape, offset);
    offset += tensor.range.byteLength;
    return tensor;
  });
}

describe('the metadata pickle', () => {
  const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

  it('is the example of contracts/prime-rl.md 3.1, byte for byte', () => {
    const tensors = [tensorOf('a.weight', 'BF16', [2, 3])];
    const expected = Buffer.concat([
      hex('80 02 7d 28 63'),
      Buffer.from('torch\nbfloat16\n'),
      hex('5d 28 28 58 08 00 00 00'),
      Buffer.from('a.weight'),
      hex('28 4b 02 4b 03 74 4b 06 74 65 75 2e'),
    ]);
    expect(expected.length).toBe(48);
    expect(Buffer.from(pickleMetadata([{ torchName: 'bfloat16', tensors }]))).toEqual(expected);
  });

  it('of no tensors is the empty dict of the sheet', () => {
    expect(Buffer.from(pickleMetadata([]))).toEqual(hex('80 02 7d 2e'));
  });

  it.each([
    [255, '4b ff'],
    [256, '4d 00 01'],
    [65_535, '4d ff ff'],
    [65_536, '4a 00 00 01 00'],
    [2 ** 31 - 1, '4a ff ff ff 7f'],
    [2 ** 31, '8a 08 00 00 00 80 00 00 00 00'],
    [2 ** 53 - 1, '8a 08 ff ff ff ff ff ff 1f 00'],
  ])('writes %i as %s', (value, bytes) => {
    const tensor = { ...tensorOf('w', 'U8', [1]), shape: [value] };
    const pickle = Buffer.from(pickleMetadata([{ torchName: 'uint8', tensors: [tensor] }]));
    expect(pickle.includes(Buffer.concat([hex('28'), hex(bytes), hex('74'), hex(bytes), hex('74')]))).toBe(
      true,
    );
    expect(loads(pickle)).toEqual(new Map([['uint8', [['w', [value], value]]]]));
  });

  it('keeps names of any script, and more tensors than the first buffer holds', () => {
    const tensors = Array.from({ length: 2000 }, (_, index) =>
      tensorOf(`модель.層.${index}.🙂`, 'F32', [index, 1]),
    );
    const loaded = loads(Buffer.from(pickleMetadata([{ torchName: 'float32', tensors }])));
    expect(loaded).toEqual(new Map([['float32', tensors.map(({ name, shape }) => [name, shape, shape[0]])]]));
  });
});

describe('the stream', () => {
  const TENSORS = inOneFile([
    ['model.embed_tokens.weight', 'BF16', [7, 5]],
    ['lm_head.weight', 'BF16', [7, 5]],
    ['model.norm.weight', 'F32', [5]],
    ['model.layers.10.mlp.weight', 'BF16', [3, 5]],
    ['model.layers.0.mlp.weight', 'F8_E4M3', [3, 5]],
    ['model.layers.0.mlp.weight_scale_inv', 'F32', [1, 1]],
    ['model.layers.0.norm.weight', 'F8_E4M3', [5]],
    ['model.layers.2.scale', 'F32', []],
    ['model.layers.2.empty', 'I64', [0, 4]],
  ]);

  it('is one dict with what is in no layer, then one a layer in the order of their numbers', () => {
    const dicts = receive(plan(TENSORS));
    expect(dicts.map((dict) => dict.map(({ name }) => name))).toEqual([
      ['model.embed_tokens.weight', 'lm_head.weight', 'model.norm.weight'],
      // By dtype, in the order of first appearance.
      ['model.layers.0.mlp.weight', 'model.layers.0.norm.weight', 'model.layers.0.mlp.weight_scale_inv'],
      ['model.layers.2.scale', 'model.layers.2.empty'],
      ['model.layers.10.mlp.weight'],
    ]);
  });

  it('brings every tensor its own bytes, also a scalar and one without elements', () => {
    const received = receive(plan(TENSORS)).flat();
    for (const { name, dtype, shape, range } of TENSORS) {
      const offset = range.kind === 'file' ? range.offset : Number.NaN;
      expect(received.find((tensor) => tensor.name === name)).toEqual({
        name,
        dtype: dtype.torchName,
        shape,
        bytes: content(offset, range.byteLength),
      });
    }
  });

  it.each([
    'model.layers.',
    'model.language_model.layers.',
    'language_model.model.layers.',
    'language_model.layers.',
  ])('finds the layers of %s beside a vision tower that has layers too', (prefix) => {
    const tensors = inOneFile([
      ['vision_tower.encoder.layers.0.w', 'BF16', [2]],
      ['model.visual.blocks.0.w', 'BF16', [2]],
      [`${prefix}0.w`, 'BF16', [2]],
      [`${prefix}1.w`, 'BF16', [2]],
    ]);
    expect(receive(plan(tensors)).map((dict) => dict.map(({ name }) => name))).toEqual([
      ['vision_tower.encoder.layers.0.w', 'model.visual.blocks.0.w'],
      [`${prefix}0.w`],
      [`${prefix}1.w`],
    ]);
  });

  it('of a model without layers that it knows is one dict', () => {
    const tensors = inOneFile([
      ['transformer.h.0.w', 'BF16', [2]],
      ['transformer.h.1.w', 'BF16', [2]],
    ]);
    expect(receive(plan(tensors))).toHaveLength(1);
  });

  it('does not grow with the number of the highest layer', () => {
    const made = plan(inOneFile([['model.layers.999999999.w', 'BF16', [2]]]));
    expect(made.frames).toHaveLength(4);
    expect(receive(made)).toHaveLength(1);
  });

  it('reports the declared list in the order of the bytes, and its sizes', () => {
    const made = plan(TENSORS);
    expect(made.tensors.map(({ name }) => name)).toEqual(
      receive(made)
        .flat()
        .map(({ name }) => name),
    );
    expect(made.byteLength).toBe(bytesOf(made).reduce((sum, { length }) => sum + length, 0));
    expect(made.largestFrame).toBe(Math.max(...bytesOf(made).map(({ length }) => length)));
  });
});

describe('a bound on the dicts', () => {
  it('cuts between modules, never inside one', () => {
    const tensors = inOneFile([
      ['model.layers.0.a.weight', 'U8', [6]],
      ['model.layers.0.a.bias', 'U8', [2]],
      ['model.layers.0.b.weight', 'U8', [6]],
      ['model.layers.0.c.weight', 'U8', [40]],
      ['model.layers.0.d.weight', 'U8', [1]],
    ]);
    expect(receive(plan(tensors, 10)).map((dict) => dict.map(({ name }) => name.slice(15)))).toEqual([
      ['a.weight', 'a.bias'],
      ['b.weight'],
      ['c.weight'],
      ['d.weight'],
    ]);
  });

  it('loses nothing, changes no order, and keeps every frame small unless one module is larger', () => {
    const tensor = fc.record({
      layer: fc.option(fc.integer({ min: 0, max: 3 })),
      module: fc.constantFrom('a', 'b', 'mlp.up', 'mlp.down'),
      dtype: fc.constantFrom('U8', 'BF16', 'F32'),
      size: fc.integer({ min: 0, max: 20 }),
    });
    fc.assert(
      fc.property(
        fc.array(tensor, { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 1, max: 100 }),
        (list, bound) => {
          const tensors = orderForLoading(
            inOneFile(
              list.map(({ layer, module, dtype, size }, index) => [
                `model.${layer === null ? '' : `layers.${layer}.`}${module}.w${index}`,
                dtype,
                [size],
              ]),
            ),
          );
          const dicts = receive(plan(tensors, bound));
          expect(
            dicts
              .flat()
              .map(({ name }) => name)
              .sort(),
          ).toEqual(tensors.map(({ name }) => name).sort());
          const modules = dicts.map((dict) => [...new Set(dict.map(({ name }) => moduleOf(name)))]);
          const all = modules.flat();
          expect(new Set(all).size, 'no module is in two dicts').toBe(all.length);
          for (const [index, dict] of dicts.entries()) {
            const bytes = dict.reduce((sum, { bytes: { length } }) => sum + length, 0);
            expect(bytes <= bound || modules[index]?.length === 1).toBe(true);
          }
        },
      ),
    );
  });

  it('also holds for the number of tensors, so that no pickle grows without end', () => {
    const tensors = inOneFile(
      Array.from({ length: 10_000 }, (_, index) => [`experts.w${index}`, 'U8', [1]] as const),
    );
    const dicts = receive(plan(tensors));
    expect(dicts.map(({ length }) => length)).toEqual([4096, 4096, 1808]);
    expect(dicts.flat().map(({ name }) => name)).toEqual(tensors.map(({ name }) => name));
  });
});

describe('refusals, before anyone is paused', () => {
  it.each([
    ['a dtype that NCCL has no type for', tensorOf('m.mask', 'BOOL', [2]), 'm.mask (dtype BOOL)'],
    ['float8_e5m2, which the communicator lacks', tensorOf('m.w', 'F8_E5M2', [2]), 'm.w (dtype F8_E5M2)'],
    ['a name that would arrive as another', tensorOf('m.\ud800', 'BF16', [2]), 'not Unicode text'],
  ])('%s', (_, tensor, words) => {
    expect(() => plan([tensorOf('fine', 'BF16', [1]), tensor])).toThrow(
      expect.objectContaining({ code: 'WC_TENSOR_UNSENDABLE', message: expect.stringContaining(words) }),
    );
  });

  it('no tensors at all', () => {
    expect(() => plan([])).toThrow(expect.objectContaining({ code: 'WC_CONFIG_INVALID' }));
  });
});
