import { encodeLength } from './request.js';

/** A reply is written in parts, so that a stored value goes out without being copied. */
export type Reply = readonly Uint8Array[];

export const NO_REPLY: Reply = [];

export const byteReply = (byte: number): Reply => [Uint8Array.of(byte)];

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
