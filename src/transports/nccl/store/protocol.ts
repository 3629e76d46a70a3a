/**
 * The TCPStore wire protocol of torch ≥ 2.2: little-endian, unaligned, no envelope. Facts: contracts/tcpstore.md §1 and §2.
 * Torch < 2.2 sends no VALIDATE and numbers its opcodes differently; it is refused by closing the connection.
 */

/** Bytes that open every connection: opcode VALIDATE (0) and the magic 0x3C85F7CE. No reply. */
export const PREAMBLE: Uint8Array = Uint8Array.of(0x00, 0xce, 0xf7, 0x85, 0x3c);

/** Counter of joined workers; the only key that clients do not prefix with '/'. */
export const JOIN_KEY = 'init/';

/** Answer to CHECK. */
export const READY = 0;
export const NOT_READY = 1;
/** Answers to WAIT and BARRIER, and to CANCEL_WAIT. */
export const STOP_WAITING = 0;
export const WAIT_CANCELED = 1;

/** A length-prefixed byte string (key or value), or an integer of fixed size. */
export type Field = 'key' | 'value' | 'i64' | 'u32';

/** What follows an opcode: `fields` once, or, when `repeated`, a u64 count and then that many groups of `fields`. */
export interface Shape {
  readonly kind: RequestKind;
  readonly fields: readonly Field[];
  readonly repeated: boolean;
}

export type RequestKind =
  | 'set'
  | 'compareSet'
  | 'get'
  | 'add'
  | 'check'
  | 'wait'
  | 'numKeys'
  | 'deleteKey'
  | 'append'
  | 'multiGet'
  | 'multiSet'
  | 'cancelWait'
  | 'ping'
  | 'queuePush'
  | 'queuePop'
  | 'queueLength'
  | 'listKeys'
  | 'barrier';

const once = (kind: RequestKind, ...fields: Field[]): Shape => ({ kind, fields, repeated: false });
const list = (kind: RequestKind, ...fields: Field[]): Shape => ({ kind, fields, repeated: true });

/** Opcode → shape. An opcode without one ends the connection, as at every torch server that does not know it. */
export const SHAPES: Readonly<Record<number, Shape>> = {
  1: once('set', 'key', 'value'),
  2: once('compareSet', 'key', 'value', 'value'),
  3: once('get', 'key'),
  4: once('add', 'key', 'i64'),
  5: list('check', 'key'),
  6: list('wait', 'key'),
  7: once('numKeys'),
  8: once('deleteKey', 'key'),
  9: once('append', 'key', 'value'),
  10: list('multiGet', 'key'),
  11: list('multiSet', 'key', 'value'),
  12: once('cancelWait'),
  13: once('ping', 'u32'),
  14: once('queuePush', 'key', 'value'),
  15: once('queuePop', 'key'),
  16: once('queueLength', 'key'),
  17: once('listKeys'),
  18: once('barrier', 'key', 'i64'),
};

export const OPCODES = Object.fromEntries(
  Object.entries(SHAPES).map(([opcode, shape]) => [shape.kind, Number(opcode)]),
) as Readonly<Record<RequestKind, number>>;

/** The peer sent what the protocol or our limits do not allow. Real servers close the connection; so do we, and say why by `refused`. */
export class MalformedRequest extends Error {
  override readonly name = 'MalformedRequest';
}
