import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planWire, type WirePlan } from '../../../../src/transports/nccl/wire/plan.js';
import { DTYPES } from '../../../../src/weights/dtype.js';
import { moduleOf } from '../../../../src/weights/order.js';
import type { Tensor } from '../../../../src/weights/tensor.js';
import { tensorOf } from '../../../weights/files.js';
import { type Broadcast, receivePacked, receivePerTensor } from './receiver.js';

const packing = (bufferBytes: number) => ({ bufferBytes, numBuffers: 2 });
const names = (plan: WirePlan) => plan.tensors.map(({ name }) => name);
const sizes = (plan: WirePlan) => plan.frames.map(({ byteLength }) => byteLength);

/** Every frame is what the receiver enters, byte for byte, tensor by tensor. */
function expectAgreement(plan: WirePlan, broadcasts: readonly Broadcast[], tensors: readonly Tensor[]): void {
  const rangeOf = new Map(tensors.map(({ name, range }) => [name, range]));
  expect(sizes(plan)).toEqual(broadcasts.map(({ byteLength }) => byteLength));
  expect(plan.frames.map(({ ranges }) => ranges)).toEqual(
    broadcasts.map((broadcast) => broadcast.tensors.map(({ name }) => rangeOf.get(name))),
  );
  expect([...names(plan)].sort()).toEqual(tensors.map(({ name }) => name).sort());
  expect(plan.byteLength).toBe(tensors.reduce((sum, { range }) => sum + range.byteLength, 0));
  expect(plan.largestFrame).toBe(Math.max(0, ...sizes(plan)));
}

describe('the worked example of contracts/vllm.md, Appendix B', () => {
  const [a, b, c, d, e] = [
    tensorOf('a', 'U8', [4]),
    tensorOf('b', 'BF16', [3]),
    tensorOf('c', 'F32', [1]),
    tensorOf('d', 'U8', [20]),
    tensorOf('e', 'BF16', [1]),
  ] as const;

  it('makes chunks of 14, 20 and 2 bytes from an order that is aligned', () => {
    const plan = planWire([c, b, a, d, e], packing(10));
    expect(names(plan)).toEqual(['c', 'b', 'a', 'd', 'e']);
    expect(sizes(plan)).toEqual([14, 20, 2]);
  });

  it('re-orders the list whose c would lie at 10', () => {
    const tensors = [a, b, c, d, e];
    const plan = planWire(tensors, packing(10));
    expectAgreement(plan, receivePacked(plan.tensors, 10), tensors);
  });

  it('is one broadcast of 36 bytes with the default buffer', () => {
    expect(sizes(planWire([c, b, a, d, e], packing(2 ** 30)))).toEqual([36]);
  });
});

describe('packed chunks', () => {
  it('close after the tensor that makes them strictly larger than the buffer, not when they are exactly full', () => {
    const tensors = [4, 6, 1, 10, 11, 3].map((n, i) => tensorOf(`t${i}`, 'U8', [n]));
    expect(sizes(planWire(tensors, packing(10)))).toEqual([11, 21, 3]);
  });

  it('keep the order of a list with one element size, whatever the sizes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(40), { maxLength: 30 }),
        fc.integer({ min: 1, max: 100 }),
        (counts, buffer) => {
          const tensors = counts.map((count, i) => tensorOf(`layers.${i}.weight`, 'BF16', [count]));
          const plan = planWire(tensors, packing(buffer));
          expect(names(plan)).toEqual(tensors.map(({ name }) => name));
          expectAgreement(plan, receivePacked(plan.tensors, buffer), tensors);
        },
      ),
    );
  });

  it('keep modules whole when larger elements first inside each module is enough', () => {
    const layer = (i: number) => [
      tensorOf(`layers.${i}.proj.weight`, 'F8_E4M3', [3, 2]),
      tensorOf(`layers.${i}.proj.weight_scale`, 'BF16', [1]),
    ];
    const tensors = [
      tensorOf('norm.bias', 'U8', [1]),
      tensorOf('norm.weight', 'BF16', [7]),
      tensorOf('norm.z', 'U8', [1]),
      ...layer(0),
      ...layer(1),
    ];
    const plan = planWire(tensors, packing(1000));
    expect(names(plan).slice(0, 3)).toEqual(['norm.weight', 'norm.bias', 'norm.z']);
    const modules = names(plan).map(moduleOf);
    expect(modules).toEqual([...modules].sort((x, y) => modules.indexOf(x) - modules.indexOf(y)));
    expectAgreement(plan, receivePacked(plan.tensors, 1000), tensors);
  });

  it('move only the odd ones to the end when that is not enough', () => {
    const tensors = [
      tensorOf('layers.0.weight', 'F32', [8]),
      tensorOf('layers.1.odd', 'U8', [3]),
      tensorOf('layers.2.weight', 'F32', [8]),
      tensorOf('layers.3.half', 'BF16', [3]),
      tensorOf('layers.4.weight', 'F32', [8]),
    ];
    const plan = planWire(tensors, packing(1000));
    expect(names(plan)).toEqual([
      'layers.0.weight',
      'layers.2.weight',
      'layers.4.weight',
      'layers.3.half',
      'layers.1.odd',
    ]);
    expectAgreement(plan, receivePacked(plan.tensors, 1000), tensors);
  });

  it('are what the receiver derives from the declared list, every tensor aligned, for any list', () => {
    const sendable = [...DTYPES.values()].filter(({ torchName, bits }) => torchName !== null && bits >= 8);
    const spec = fc.record({
      dtype: fc.constantFrom(...sendable.map(({ name }) => name)),
      shape: fc.array(fc.nat(5), { minLength: 1, maxLength: 3 }),
      module: fc.nat(5),
    });
    fc.assert(
      fc.property(fc.array(spec, { maxLength: 25 }), fc.integer({ min: 1, max: 200 }), (specs, buffer) => {
        const tensors = specs.map(({ dtype, shape, module }, i) =>
          tensorOf(`m.${module}.t${i}`, dtype, shape, 1000 * i),
        );
        const plan = planWire(tensors, packing(buffer));
        expectAgreement(plan, receivePacked(plan.tensors, buffer), tensors);
      }),
      { numRuns: 500 },
    );
  });
});

describe('per-tensor broadcasts', () => {
  it('are one for each tensor, in the given order, scalars and empty tensors too', () => {
    const tensors = [
      tensorOf('b', 'BF16', [3, 5]),
      tensorOf('scalar', 'F32', []),
      tensorOf('empty', 'F16', [0, 4]),
      tensorOf('a', 'I64', [2]),
    ];
    const plan = planWire(tensors, null);
    expect(sizes(plan)).toEqual([30, 4, 0, 16]);
    expectAgreement(plan, receivePerTensor(plan.tensors), tensors);
  });
});

describe('a tensor that the wire format cannot carry', () => {
  const fine = tensorOf('fine', 'BF16', [2]);
  const refusal = (tensors: readonly Tensor[], bufferBytes: number | null) => {
    try {
      planWire(tensors, bufferBytes === null ? null : packing(bufferBytes));
    } catch (error) {
      return error;
    }
    return null;
  };

  it.each(['BOOL', 'I16', 'U16', 'U32', 'U64', 'C64', 'F8_E5M2', 'F8_E8M0', 'F8_E4M3FNUZ', 'F8_E5M2FNUZ'])(
    'of dtype %s is refused per tensor, with --packed as the remedy',
    (dtype) => {
      const odd = tensorOf('odd', dtype, [2]);
      expect(() =>
        receivePerTensor([{ name: 'odd', dtypeName: odd.dtype.torchName as string, shape: [2] }]),
      ).toThrow();
      expect(refusal([fine, odd], null)).toMatchObject({
        code: 'WC_TENSOR_UNSENDABLE',
        message: expect.stringContaining(`odd (dtype ${dtype})`),
        remedy: expect.stringContaining('--packed'),
      });
      expect(refusal([fine, odd], 100)).toBeNull();
    },
  );

  it('is a scalar when packed, with --no-packed as the remedy', () => {
    expect(refusal([fine, tensorOf('scale', 'F32', [])], 100)).toMatchObject({
      code: 'WC_TENSOR_UNSENDABLE',
      message: expect.stringContaining('scale (a scalar, shape [])'),
      remedy: expect.stringContaining('--no-packed'),
    });
  });

  it.each(['F4', 'F6_E2M3', 'F6_E3M2'])('of dtype %s goes by files only', (dtype) => {
    for (const bufferBytes of [100, null]) {
      expect(refusal([fine, tensorOf('odd', dtype, [8])], bufferBytes)).toMatchObject({
        remedy: expect.stringContaining('--transport filesystem'),
      });
    }
  });

  it('sends to files also when each format refuses another tensor', () => {
    const tensors = [tensorOf('scale', 'F32', []), tensorOf('mask', 'BOOL', [4])];
    expect(refusal(tensors, 100)).toMatchObject({
      remedy: expect.stringContaining('--transport filesystem'),
    });
  });

  it('is named, with the count of the others', () => {
    const tensors = Array.from({ length: 9 }, (_, i) => tensorOf(`scale${i}`, 'F32', []));
    expect(refusal(tensors, 100)).toMatchObject({
      message: expect.stringMatching(/scale0 .*scale4 .* and 4 more$/),
      details: { refused: expect.objectContaining({ length: 9 }) },
    });
  });
});
