/** Headers of safetensors files, as the reference library writes them. */
import { WeightcastError } from '../errors.js';
import type { Steps } from './yielding.js';

const ALIGNMENT = 8;
const LENGTH_BYTES = 8;
const MAX_HEADER_BYTES = 100_000_000;
const TENSORS_PER_STEP = 512;

export interface HeaderTensor {
  readonly name: string;
  /** A dtype of the safetensors format: 'BF16' … */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/**
 * Length prefix and JSON for tensors that follow one another in this order; padded with spaces, so that the first tensor begins at a multiple of 8.
 *
 * @throws WeightcastError WC_TENSOR_UNSENDABLE beyond the format's limit, and for a tensor with the name of the metadata
 */
export function* encodeHeaderSteps(
  tensors: readonly HeaderTensor[],
  metadata: Readonly<Record<string, string>>,
): Steps<Buffer> {
  // Put together by hand: an object would move names that are numbers to the front.
  const parts = [`"__metadata__":${JSON.stringify(metadata)}`];
  let offset = 0;
  for (const [index, { name, dtype, shape, byteLength }] of tensors.entries()) {
    if (name === '__metadata__') {
      throw new WeightcastError(
        'WC_TENSOR_UNSENDABLE',
        "a tensor can't be called __metadata__ in safetensors",
        {
          remedy: 'Give the tensor another name.',
        },
      );
    }
    const facts = { dtype, shape, data_offsets: [offset, offset + byteLength] };
    parts.push(`${JSON.stringify(name)}:${JSON.stringify(facts)}`);
    offset += byteLength;
    if (index % TENSORS_PER_STEP === 0) yield;
  }
  const json = Buffer.from(`{${parts.join(',')}}`);
  const padding = (ALIGNMENT - (json.length % ALIGNMENT)) % ALIGNMENT;
  if (json.length + padding > MAX_HEADER_BYTES) {
    throw new WeightcastError(
      'WC_TENSOR_UNSENDABLE',
      `${tensors.length} tensors in one file need a header of ${json.length} bytes: the format allows ${MAX_HEADER_BYTES}`,
      { remedy: 'Use smaller shards.' },
    );
  }
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeBigUInt64LE(BigInt(json.length + padding));
  return Buffer.concat([length, json, Buffer.alloc(padding, ' ')]);
}
