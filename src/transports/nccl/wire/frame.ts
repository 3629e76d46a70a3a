import type { ByteRange } from '../../../weights/tensor.js';

/** An ordered list of byte ranges that leaves as exactly one ncclBroadcast. */
export interface Frame {
  readonly ranges: readonly ByteRange[];
  readonly byteLength: number;
}
