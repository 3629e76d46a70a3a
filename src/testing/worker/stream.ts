/**
 * prime-rl's stream, as its worker takes it (contracts/prime-rl.md 3): a count, and for each state dict a length, a pickle, and one broadcast a dtype. The count
 * and the lengths are whatever the next broadcast holds: a receive that begins in the middle of another stream reads garbage, as the real one does.
 */
import { WorkerError } from '../server/transfer-info.js';
import type { Parameters } from './parameters.js';
import { broadcastItemSize } from './receive-plan.js';
import { unpickleMetadata } from './unpickle.js';

type Read = (offset: number, byteLength: number) => Promise<Uint8Array>;
/** Takes part in one broadcast of so many bytes; what it gives is good until the next. */
type Broadcast = (byteLength: number) => Promise<Read>;

/** No buffer of a reference engine is larger. */
const MAX_BYTES = 2 ** 32;

export async function receiveStream(parameters: Parameters, broadcast: Broadcast): Promise<void> {
  const bounded: Broadcast = (byteLength) => {
    if (byteLength < 0)
      throw new WorkerError(`Trying to create tensor with negative dimension ${byteLength}`);
    if (!(byteLength <= MAX_BYTES)) throw new WorkerError('CUDA out of memory.');
    return broadcast(byteLength);
  };
  const integer = async (): Promise<number> => {
    const bytes = await (await bounded(8))(0, 8);
    return Number(Buffer.from(bytes.buffer, bytes.byteOffset, 8).readBigInt64LE());
  };
  const count = await integer();
  for (let index = 0; index < count; index += 1) {
    const byteLength = await integer();
    const metadata = unpickleMetadata(await (await bounded(byteLength))(0, byteLength));
    for (const [dtype, tensors] of metadata) {
      const itemSize = broadcastItemSize(dtype);
      const read = await bounded(itemSize * tensors.reduce((sum, { numel }) => sum + numel, 0));
      let offset = 0;
      for (const { name, shape, numel } of tensors) {
        const from = offset;
        if (shape.reduce((product, extent) => product * extent, 1) !== numel) {
          throw new WorkerError(`shape '[${shape.join(', ')}]' is invalid for input of size ${numel}`);
        }
        parameters.requireLoadable(name, dtype, shape);
        await parameters.store(name, (at, length) => read(from + at, length));
        offset += numel * itemSize;
      }
    }
  }
}
