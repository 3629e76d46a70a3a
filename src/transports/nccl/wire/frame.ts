import type { TensorSpec } from '../../../engines/admin.js';
import type { ByteRange } from '../../../weights/tensor.js';

/** An ordered list of byte ranges that leaves as exactly one ncclBroadcast. */
export interface Frame {
  readonly ranges: readonly ByteRange[];
  readonly byteLength: number;
}

/** One update in one wire format. */
export interface WirePlan {
  /** The list to declare, in the order of the bytes. */
  readonly tensors: readonly TensorSpec[];
  /** Of a delta: how many elements of each tensor are sent. Absent: whole tensors. */
  readonly updates?: readonly number[] | undefined;
  /** One broadcast each, in order. */
  readonly frames: readonly Frame[];
  readonly byteLength: number;
  /** Bytes of the largest frame: no staging slot can be smaller. */
  readonly largestFrame: number;
}

/** The sizes of a plan follow from its frames. */
export function sizesOf(frames: readonly Frame[]): Pick<WirePlan, 'byteLength' | 'largestFrame'> {
  let byteLength = 0;
  let largestFrame = 0;
  for (const frame of frames) {
    byteLength += frame.byteLength;
    largestFrame = Math.max(largestFrame, frame.byteLength);
  }
  return { byteLength, largestFrame };
}
