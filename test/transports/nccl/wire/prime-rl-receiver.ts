/**
 * What prime-rl's worker does with the stream, written from contracts/prime-rl.md 3 and from nothing of ours: count, then for each dict a length, a
 * pickle and one broadcast a dtype. The pickle machine knows the opcodes of the sheet and stops at any other.
 */
export interface LoadedTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Buffer;
}

/** Takes the frames as bytes; throws where the worker would, or would wait for ever. */
export function receivePrimeRl(
  frames: readonly Buffer[],
  itemSize: (dtype: string) => number,
): LoadedTensor[][] {
  const queue = [...frames];
  const broadcast = (byteLength: number): Buffer => {
    const frame = queue.shift();
    if (frame === undefined) throw new Error('the receiver waits for a broadcast that nobody sends');
    if (frame.length !== byteLength)
      throw new Error(`a broadcast of ${frame.length} bytes, not ${byteLength}`);
    return frame;
  };
  const int64 = () => Number(broadcast(8).readBigInt64LE());
  const dicts: LoadedTensor[][] = [];
  const count = int64();
  for (let index = 0; index < count; index += 1) {
    const metadata = loads(broadcast(int64())) as Map<string, [string, number[], number][]>;
    const dict: LoadedTensor[] = [];
    for (const [dtype, tensors] of metadata) {
      const total = tensors.reduce((sum, [, , numel]) => sum + numel, 0);
      const buffer = broadcast(total * itemSize(dtype));
      let offset = 0;
      for (const [name, shape, numel] of tensors) {
        const byteLength = numel * itemSize(dtype);
        if (shape.reduce((product, extent) => product * extent, 1) !== numel)
          throw new Error(`view of ${name}`);
        dict.push({ name, dtype, shape, bytes: buffer.subarray(offset, offset + byteLength) });
        offset += byteLength;
      }
    }
    dicts.push(dict);
  }
  if (queue.length > 0) throw new Error(`${queue.length} broadcasts that nobody receives`);
  return dicts;
}

const MARK = Symbol('mark');

/** pickle.loads for the sheet's opcodes; a torch dtype becomes its name. */
export function loads(pickle: Buffer): unknown {
  let at = 0;
  const stack: unknown[] = [];
  const byte = () => pickle.readUInt8(at++);
  const line = () => {
    const end = pickle.indexOf(0x0a, at);
    const text = pickle.toString('utf8', at, end);
    at = end + 1;
    return text;
  };
  const toMark = () => {
    const from = stack.lastIndexOf(MARK);
    const items = stack.slice(from + 1);
    stack.length = from;
    return items;
  };
  for (;;) {
    const opcode = byte();
    switch (opcode) {
      case 0x80:
        if (byte() !== 2) throw new Error('another protocol');
        break;
      case 0x7d:
        stack.push(new Map());
        break;
      case 0x5d:
        stack.push([]);
        break;
      case 0x28:
        stack.push(MARK);
        break;
      case 0x63: {
        const [module, name] = [line(), line()];
        if (module !== 'torch') throw new Error(`global ${module}.${name}`);
        stack.push(name);
        break;
      }
      case 0x58: {
        const length = pickle.readUInt32LE(at);
        at += 4 + length;
        stack.push(pickle.toString('utf8', at - length, at));
        break;
      }
      case 0x4b:
        stack.push(byte());
        break;
      case 0x4d:
        stack.push(pickle.readUInt16LE(at));
        at += 2;
        break;
      case 0x4a:
        stack.push(pickle.readInt32LE(at));
        at += 4;
        break;
      case 0x8a: {
        const length = byte();
        stack.push(
          Number(
            BigInt.asIntN(
              8 * length,
              BigInt(
                `0x${[...pickle.subarray(at, at + length)]
                  .reverse()
                  .map((value) => value.toString(16).padStart(2, '0'))
                  .join('')}`,
              ),
            ),
          ),
        );
        at += length;
        break;
      }
      case 0x74:
        stack.push(toMark());
        break;
      case 0x65: {
        const items = toMark();
        (stack.at(-1) as unknown[]).push(...items);
        break;
      }
      case 0x75: {
        const items = toMark();
        const dict = stack.at(-1) as Map<unknown, unknown>;
        for (let index = 0; index < items.length; index += 2) dict.set(items[index], items[index + 1]);
        break;
      }
      case 0x2e:
        if (at !== pickle.length || stack.length !== 1) throw new Error('more than one object');
        return stack[0];
      default:
        throw new Error(`opcode ${opcode.toString(16)} at ${at - 1}`);
    }
  }
}
