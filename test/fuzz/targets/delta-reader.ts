/** A second reader of deltas, from docs/delta-format.md alone: what the product's reader is held against. It knows no zstd. */
import { reached } from './target.js';

const MAGIC = 'WCDELTA\n';
const BLOCK = 1 << 20;
const RAW = 0xffffffff;

export interface Entry {
  readonly elementBytes: number;
  readonly byteLength: number;
  /** Null: based on nothing. */
  readonly base: Buffer | null;
}

/** It is no delta of these tensors. */
export class Refused extends Error {}
/** It may be one, and takes zstd to be read. */
export class NeedsZstd extends Error {}

/** The new bytes of each tensor. @throws Refused, NeedsZstd */
export function readDelta(file: Buffer, entries: readonly Entry[]): readonly Buffer[] {
  const isZstd = readFrame(file, entries);
  const index = Number(file.readBigUInt64LE(file.length - 32));
  const line = { at: index };
  const block = { at: 32 };
  const made = entries.map((entry) => readEntry(file, entry, { line, block, isZstd }));
  demand(block.at === index, 'blocks do not fill it');
  demand(line.at === file.length - 32, 'index does not fill it');
  return made.map((make) => make());
}

/** @returns whether planes may be compressed */
function readFrame(file: Buffer, entries: readonly Entry[]): boolean {
  demand(file.length >= 64, 'too short');
  demand(file.toString('latin1', 0, 8) === MAGIC, 'begins otherwise');
  demand(file.readUInt32LE(8) === 1, 'version');
  const codec = file.readUInt32LE(12);
  demand(codec <= 1, 'codec');
  demand(file.readUInt32LE(16) === BLOCK && file.readUInt32LE(20) === 0, 'block size');
  demand(file.readBigUInt64LE(24) === BigInt(entries.length), 'entries');
  const end = file.subarray(-32);
  demand(end.toString('latin1', 24) === MAGIC, 'ends otherwise');
  demand(end.readBigUInt64LE(16) === BigInt(file.length), 'file size');
  const bytes = entries.reduce((sum, { byteLength }) => sum + 16 + 8 * Math.ceil(byteLength / BLOCK), 0);
  demand(end.readBigUInt64LE(8) === BigInt(bytes) && bytes <= file.length - 64, 'index size');
  demand(end.readBigUInt64LE(0) === BigInt(file.length - 32 - bytes), 'index offset');
  return codec === 1;
}

interface Position {
  at: number;
}

/** Looks at the index of one entry first; its blocks are read when all of the index is known to be right. */
function readEntry(
  file: Buffer,
  { byteLength, elementBytes, base }: Entry,
  { line, block, isZstd }: { line: Position; block: Position; isZstd: boolean },
): () => Buffer {
  demand(file.readBigUInt64LE(line.at) === BigInt(byteLength), 'length');
  demand(file.readUInt32LE(line.at + 8) === elementBytes, 'element');
  demand(file.readUInt32LE(line.at + 12) === (base === null ? 0 : 1), 'based');
  line.at += 16;
  const makers: (() => Buffer)[] = [];
  for (let from = 0; from < byteLength; from += BLOCK) {
    const whole = Math.min(BLOCK, byteLength - from);
    const stored = file.readUInt32LE(line.at);
    const changes = file.readUInt32LE(line.at + 4);
    line.at += 8;
    if (changes === RAW) demand(stored === whole, 'raw size');
    else demand(base !== null && (changes === 0) === (stored === 0) && stored < whole, 'block size');
    const at = block.at;
    block.at += stored;
    makers.push(() => {
      const bytes = file.subarray(at, at + stored);
      if (changes === RAW) return bytes;
      const copy = Buffer.from((base as Buffer).subarray(from, from + whole));
      if (changes > 0) applyBlock(bytes, { changes, elementBytes, isZstd }, copy);
      return copy;
    });
  }
  return () => Buffer.concat(makers.map((make) => make()));
}

interface BlockFacts {
  readonly changes: number;
  readonly elementBytes: number;
  readonly isZstd: boolean;
}

function applyBlock(bytes: Buffer, { changes, elementBytes, isZstd }: BlockFacts, block: Buffer): void {
  demand(changes <= block.length / elementBytes, 'more changes than elements');
  const gaps = bytes[0] as number;
  demand(gaps >= 1 && gaps <= 4, 'gap width');
  let at = 1;
  const planes = Array.from({ length: gaps + elementBytes }, () => {
    demand(at + 5 <= bytes.length, 'plane header');
    const method = bytes[at] as number;
    const stored = bytes.readUInt32LE(at + 1);
    at += 5;
    demand(stored <= bytes.length - at, 'plane size');
    const from = bytes.subarray(at, at + stored);
    at += stored;
    reached(`plane method ${Math.min(method, 3)}`);
    if (method === 0) demand(stored === changes, 'plane length');
    else if (method === 1) demand(stored === 1, 'fill length');
    else if (method === 2 && isZstd) throw new NeedsZstd();
    else demand(false, 'method');
    return method === 1 ? Buffer.alloc(changes, from) : from;
  });
  demand(at === bytes.length, 'bytes left over');
  let next = 0;
  for (let i = 0; i < changes; ++i) {
    const gap = planes
      .slice(0, gaps)
      .reduce((sum, plane, byte) => sum + (plane[i] as number) * 256 ** byte, 0);
    const element = next + gap;
    demand(element < Math.floor(block.length / elementBytes), 'behind the end');
    next = element + 1;
    const folded = planes
      .slice(gaps)
      .reduce((sum, plane, byte) => sum | (BigInt(plane[i] as number) << BigInt(8 * byte)), 0n);
    change(block, elementBytes * element, elementBytes, (folded >> 1n) ^ -(folded & 1n));
  }
  reached(`changed ${Math.min(changes, 3)} with ${gaps}`);
}

function change(block: Buffer, at: number, width: number, difference: bigint): void {
  let value = 0n;
  for (let byte = 0; byte < width; ++byte) value |= BigInt(block[at + byte] as number) << BigInt(8 * byte);
  value = BigInt.asUintN(8 * width, value + difference);
  for (let byte = 0; byte < width; ++byte) block[at + byte] = Number((value >> BigInt(8 * byte)) & 255n);
}

function demand(condition: boolean, what: string): void {
  reached(`${what}: ${condition}`);
  if (!condition) throw new Refused(what);
}
