import { encodeLength } from './request.js';

/** A reply is written in parts, so that a stored value goes out without being copied. */
export type Reply = readonly Uint8Array[];

export const NO_REPLY: Reply = [];

/** Each is written as it is, again and again. */
const BYTES: readonly Reply[] = [[Uint8Array.of(0)], [Uint8Array.of(1)]];

export const byteReply = (byte: 0 | 1): Reply => BYTES[byte] as Reply;

export function integerReply(value: bigint): Reply {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(value);
  return [bytes];
}

export function nonceReply(nonce: number): Reply {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(nonce);
  return [bytes];
}

export const bytesReply = (value: Uint8Array): Reply => [encodeLength(value.length), value];

export const replyLength = (reply: Reply): number => reply.reduce((sum, part) => sum + part.length, 0);
