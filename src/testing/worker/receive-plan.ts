/**
 * What a vLLM worker receives for an update: which broadcasts, of how many bytes, and which tensor lies where. A second reading of
 * contracts/vllm.md 1.6 and 1.7, on purpose not shared with the sender: the two must agree by the protocol alone.
 */
import { type ReceiveOrder, WorkerError } from '../server/transfer-info.js';

export interface ReceivedTensor {
  readonly name: string;
  readonly dtypeName: string;
  readonly shape: readonly number[];
  /** Byte offset within its broadcast. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface Broadcast {
  readonly byteLength: number;
  readonly tensors: readonly ReceivedTensor[];
}

interface TorchType {
  readonly itemSize: number;
  /** Name in torch's messages about views. */
  readonly scalar: string;
  /** PyNccl can broadcast it as it is. */
  readonly broadcastable: boolean;
}

const TORCH: Readonly<Record<string, TorchType>> = {
  bool: { itemSize: 1, scalar: 'Bool', broadcastable: false },
  uint8: { itemSize: 1, scalar: 'Byte', broadcastable: true },
  int8: { itemSize: 1, scalar: 'Char', broadcastable: true },
  uint16: { itemSize: 2, scalar: 'UInt16', broadcastable: false },
  int16: { itemSize: 2, scalar: 'Short', broadcastable: false },
  float16: { itemSize: 2, scalar: 'Half', broadcastable: true },
  bfloat16: { itemSize: 2, scalar: 'BFloat16', broadcastable: true },
  uint32: { itemSize: 4, scalar: 'UInt32', broadcastable: false },
  int32: { itemSize: 4, scalar: 'Int', broadcastable: true },
  float32: { itemSize: 4, scalar: 'Float', broadcastable: true },
  uint64: { itemSize: 8, scalar: 'UInt64', broadcastable: false },
  int64: { itemSize: 8, scalar: 'Long', broadcastable: true },
  float64: { itemSize: 8, scalar: 'Double', broadcastable: true },
  complex64: { itemSize: 8, scalar: 'ComplexFloat', broadcastable: false },
  float8_e4m3fn: { itemSize: 1, scalar: 'Float8_e4m3fn', broadcastable: true },
  float8_e5m2: { itemSize: 1, scalar: 'Float8_e5m2', broadcastable: false },
  float8_e4m3fnuz: { itemSize: 1, scalar: 'Float8_e4m3fnuz', broadcastable: false },
  float8_e5m2fnuz: { itemSize: 1, scalar: 'Float8_e5m2fnuz', broadcastable: false },
  float8_e8m0fnu: { itemSize: 1, scalar: 'Float8_e8m0fnu', broadcastable: false },
  float4_e2m1fn_x2: { itemSize: 1, scalar: 'Float4_e2m1fn_x2', broadcastable: false },
};

function torchType(name: string): TorchType {
  const type = TORCH[name];
  if (type === undefined) {
    throw new WorkerError(`module 'torch' has no attribute '${name}'`);
  }
  return type;
}

/** Bytes of one element, of a dtype that PyNccl can broadcast. */
export function broadcastItemSize(dtypeName: string): number {
  const { itemSize, broadcastable } = torchType(dtypeName);
  if (!broadcastable) throw new WorkerError(`Unsupported dtype: torch.${dtypeName}`);
  return itemSize;
}

function* tensorsOf(order: ReceiveOrder): Generator<Omit<ReceivedTensor, 'offset'>> {
  for (const [index, name] of order.names.entries()) {
    const dtypeName = order.dtypeNames[index] ?? '';
    const shape = order.shapes[index] ?? [];
    const byteLength = shape.reduce((product, extent) => product * extent, torchType(dtypeName).itemSize);
    if (!Number.isSafeInteger(byteLength)) {
      throw new WorkerError('Storage size calculation overflowed');
    }
    yield { name, dtypeName, shape, byteLength };
  }
}

/** The broadcasts in order. Lazy, as the receiver is: a bad entry late in the list is met after the earlier ones were received. */
export function* broadcastsOf(order: ReceiveOrder): Generator<Broadcast> {
  if (!order.packed) {
    for (const tensor of tensorsOf(order)) {
      if (!torchType(tensor.dtypeName).broadcastable) {
        throw new WorkerError(`Unsupported dtype: torch.${tensor.dtypeName}`);
      }
      yield { byteLength: tensor.byteLength, tensors: [{ ...tensor, offset: 0 }] };
    }
    return;
  }
  let tensors: ReceivedTensor[] = [];
  let total = 0;
  for (const tensor of tensorsOf(order)) {
    tensors.push({ ...tensor, offset: total });
    total += tensor.byteLength;
    // A chunk closes after the tensor that makes it strictly larger than the buffer.
    if (total > order.bufferBytes) {
      yield { byteLength: total, tensors };
      tensors = [];
      total = 0;
    }
  }
  if (tensors.length > 0) {
    yield { byteLength: total, tensors };
  }
}

/** `.view(dtype)` and `.view(*shape)` of a slice of the received bytes: what torch refuses, after the bytes have arrived. */
export function requireViewable(tensor: ReceivedTensor): void {
  const { itemSize, scalar } = torchType(tensor.dtypeName);
  if (tensor.offset % itemSize !== 0) {
    throw new WorkerError(
      `self.storage_offset() must be divisible by ${itemSize} to view Byte as ${scalar} (different element sizes), but got ${tensor.offset}`,
    );
  }
  if (tensor.shape.length === 0) {
    throw new WorkerError(
      'view() received an invalid combination of arguments - got (), but expected one of:\n * (torch.dtype dtype)\n * (tuple of ints size)\n',
    );
  }
}
