/**
 * prime-rl's frames (contracts/prime-rl.md 3; unchanged since 2025-11-04): the number of state dicts, then for each the length of its metadata, the metadata,
 * and one broadcast a dtype with the tensors of that dtype back to back. The receiver learns everything from the stream: the request only starts it.
 */
import type { Packing, TensorSpec } from '../../../engines/admin.js';
import { WeightcastError } from '../../../errors.js';
import type { ByteRange, Tensor } from '../../../weights/tensor.js';
import type { Steps } from '../../../weights/yielding.js';
import { type Frame, sizesOf, type WirePlan } from './frame.js';
import { stateDicts } from './prime-rl-dicts.js';
import { type DtypeGroup, pickleMetadata } from './prime-rl-metadata.js';
import { dtypeRefusal } from './pynccl-dtypes.js';
import { type Encoding, refuseUnsendable } from './refusal.js';

/** Half of a character. */
const UNPAIRED = /\p{Surrogate}/u;

const primeRl: Encoding = {
  name: 'prime-rl',
  option: null,
  refusal: ({ name, dtype }) =>
    // A lone surrogate would be another name as UTF-8.
    dtypeRefusal(dtype) ?? (UNPAIRED.test(name) ? 'a name that is not Unicode text' : null),
};

/**
 * Plans one update in slices. With `packing`, a state dict with more than its bufferBytes is sent as several (modules stay whole); without, the dicts
 * are prime-rl's own: all that is in no layer, then one a layer.
 *
 * @throws WeightcastError WC_TENSOR_UNSENDABLE, WC_CONFIG_INVALID
 */
export function* primeRlSteps(tensors: readonly Tensor[], packing: Packing | null): Steps<WirePlan> {
  if (tensors.length === 0) {
    throw new WeightcastError('WC_CONFIG_INVALID', 'an update needs at least one tensor', {
      remedy: 'Pass a checkpoint that has tensors.',
    });
  }
  refuseUnsendable(tensors, primeRl, null);
  yield;
  const dicts = yield* stateDicts(tensors, packing?.bufferBytes ?? null);
  const frames: Frame[] = [hostFrame(int64(dicts.length))];
  const specs: TensorSpec[] = [];
  for (const dict of dicts) {
    const groups = dtypeGroups(dict);
    const metadata = pickleMetadata(groups);
    frames.push(hostFrame(int64(metadata.byteLength)), hostFrame(metadata));
    for (const { torchName, tensors: members } of groups) {
      frames.push(frameOf(members.map(({ range }) => range)));
      for (const { name, shape } of members) specs.push({ name, dtypeName: torchName, shape });
    }
    yield;
  }
  return { tensors: specs, frames, ...sizesOf(frames) };
}

/** By first appearance; in a group, the order of the dict. */
function dtypeGroups(dict: readonly Tensor[]): DtypeGroup[] {
  const groups = new Map<string, Tensor[]>();
  for (const tensor of dict) {
    const torchName = tensor.dtype.torchName as string;
    const group = groups.get(torchName);
    if (group === undefined) groups.set(torchName, [tensor]);
    else group.push(tensor);
  }
  return [...groups].map(([torchName, tensors]) => ({ torchName, tensors }));
}

function int64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt(value), true);
  return bytes;
}

const hostFrame = (bytes: Uint8Array): Frame =>
  frameOf([{ kind: 'host', bytes, byteLength: bytes.byteLength }]);

/** A group without elements is a broadcast of 0 bytes: NCCL launches nothing for it, on either side. */
function frameOf(ranges: readonly ByteRange[]): Frame {
  return { ranges, byteLength: ranges.reduce((sum, { byteLength }) => sum + byteLength, 0) };
}
