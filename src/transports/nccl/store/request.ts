import { type Field, OPCODES, type RequestKind, SHAPES, type Shape } from './protocol.js';

/** A key as its wire bytes, one latin1 character a byte: keys are byte strings and need not be UTF-8. */
export type WireKey = string;

/** UTF-8 text → wire key. User keys of a TCPStore begin with '/', see {@link userKey}. */
export const wireKey = (text: string): WireKey => Buffer.from(text, 'utf8').toString('latin1');

/** The wire key of what a torch user calls `key`. */
export const userKey = (key: string): WireKey => wireKey(`/${key}`);

export type StoreRequest =
  | { readonly kind: 'set' | 'append' | 'queuePush'; readonly key: WireKey; readonly value: Uint8Array }
  | {
      readonly kind: 'compareSet';
      readonly key: WireKey;
      readonly expected: Uint8Array;
      readonly desired: Uint8Array;
    }
  | { readonly kind: 'get' | 'deleteKey' | 'queuePop' | 'queueLength'; readonly key: WireKey }
  | { readonly kind: 'add'; readonly key: WireKey; readonly delta: bigint }
  | { readonly kind: 'barrier'; readonly key: WireKey; readonly worldSize: bigint }
  | { readonly kind: 'check' | 'wait' | 'multiGet'; readonly keys: readonly WireKey[] }
  | { readonly kind: 'multiSet'; readonly entries: readonly StoreEntry[] }
  | { readonly kind: 'ping'; readonly nonce: number }
  | { readonly kind: 'numKeys' | 'cancelWait' | 'listKeys' };

export interface StoreEntry {
  readonly key: WireKey;
  readonly value: Uint8Array;
}

type FieldValue = WireKey | Uint8Array | bigint | number;

/** Reads one request that is known to be whole and within limits ({@link import('./parser.js').RequestParser} sees to it). */
export function decodeRequest(bytes: Buffer): StoreRequest {
  const shape = SHAPES[bytes[0]!]!;
  let offset = 1;
  const length = (): number => {
    offset += 8;
    return Number(bytes.readBigUInt64LE(offset - 8));
  };
  const read: Readonly<Record<Field, () => FieldValue>> = {
    key: () => {
      const end = length() + offset;
      const key = bytes.toString('latin1', offset, end);
      offset = end;
      return key;
    },
    // A copy with its own memory: a view would keep the whole receive buffer alive.
    value: () => {
      const end = length() + offset;
      const value = new Uint8Array(bytes.subarray(offset, end));
      offset = end;
      return value;
    },
    i64: () => {
      offset += 8;
      return bytes.readBigInt64LE(offset - 8);
    },
    u32: () => {
      offset += 4;
      return bytes.readUInt32LE(offset - 4);
    },
  };
  const group = (): FieldValue[] => shape.fields.map((field) => read[field]());
  if (!shape.repeated) return fromFields(shape.kind, [group()]);
  const groups: FieldValue[][] = [];
  for (let count = length(); count > 0; count--) groups.push(group());
  return fromFields(shape.kind, groups);
}

function fromFields(kind: RequestKind, groups: readonly FieldValue[][]): StoreRequest {
  const [a, b, c] = groups[0] ?? [];
  switch (kind) {
    case 'set':
    case 'append':
    case 'queuePush':
      return { kind, key: a as WireKey, value: b as Uint8Array };
    case 'compareSet':
      return { kind, key: a as WireKey, expected: b as Uint8Array, desired: c as Uint8Array };
    case 'get':
    case 'deleteKey':
    case 'queuePop':
    case 'queueLength':
      return { kind, key: a as WireKey };
    case 'add':
      return { kind, key: a as WireKey, delta: b as bigint };
    case 'barrier':
      return { kind, key: a as WireKey, worldSize: b as bigint };
    case 'check':
    case 'wait':
    case 'multiGet':
      return { kind, keys: groups.map(([key]) => key as WireKey) };
    case 'multiSet':
      return {
        kind,
        entries: groups.map(([key, value]) => ({ key: key as WireKey, value: value as Uint8Array })),
      };
    case 'ping':
      return { kind, nonce: a as number };
    case 'numKeys':
    case 'cancelWait':
    case 'listKeys':
      return { kind };
  }
}

function toFields(request: StoreRequest): readonly FieldValue[][] {
  switch (request.kind) {
    case 'set':
    case 'append':
    case 'queuePush':
      return [[request.key, request.value]];
    case 'compareSet':
      return [[request.key, request.expected, request.desired]];
    case 'get':
    case 'deleteKey':
    case 'queuePop':
    case 'queueLength':
      return [[request.key]];
    case 'add':
      return [[request.key, request.delta]];
    case 'barrier':
      return [[request.key, request.worldSize]];
    case 'check':
    case 'wait':
    case 'multiGet':
      return request.keys.map((key) => [key]);
    case 'multiSet':
      return request.entries.map(({ key, value }) => [key, value]);
    case 'ping':
      return [[request.nonce]];
    case 'numKeys':
    case 'cancelWait':
    case 'listKeys':
      return [[]];
  }
}

function encodeField(field: Field, value: FieldValue): Buffer {
  if (field === 'i64' || field === 'u32') {
    const bytes = Buffer.alloc(field === 'i64' ? 8 : 4);
    if (field === 'i64') bytes.writeBigInt64LE(value as bigint);
    else bytes.writeUInt32LE(value as number);
    return bytes;
  }
  const payload = field === 'key' ? Buffer.from(value as WireKey, 'latin1') : (value as Uint8Array);
  return Buffer.concat([encodeLength(payload.length), payload]);
}

/** u64, as every length and count on this wire. */
export function encodeLength(length: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(length));
  return bytes;
}

/** The bytes a torch client would send for this request. */
export function encodeRequest(request: StoreRequest): Buffer {
  const opcode = OPCODES[request.kind];
  const shape: Shape = SHAPES[opcode]!;
  const groups = toFields(request);
  const fields = groups.flatMap((group) => shape.fields.map((field, i) => encodeField(field, group[i]!)));
  const count = shape.repeated ? [encodeLength(groups.length)] : [];
  return Buffer.concat([Uint8Array.of(opcode), ...count, ...fields]);
}
