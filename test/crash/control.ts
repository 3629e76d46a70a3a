/** What the preloaded library is told, and what it tells: a file that it maps. The layout is that of struct control in preload/fault.c. */
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';

/** In the order of fault.c. */
export const KINDS = [
  ...[
    'open',
    'write',
    'fallocate',
    'ftruncate',
    'fsync',
    'close',
    'rename',
    'link',
    'unlink',
    'mkdir',
    'rmdir',
    'utimes',
  ],
] as const;
/** `full`: that call and all after it fail. */
const ACTS = ['none', 'kill before', 'kill halfway', 'kill after', 'fail', 'short', 'full'] as const;

export type Kind = (typeof KINDS)[number];
export type ErrorName = 'ENOSPC' | 'EIO' | 'EDQUOT';

export interface Fault {
  readonly act: (typeof ACTS)[number];
  /** The how-many-eth of the calls that count, from 1 on. */
  readonly at: number;
  readonly error: ErrorName;
  /** Which calls count; others pass. */
  readonly kinds: readonly Kind[];
}

export const NO_FAULT: Fault = { act: 'none', at: 0, error: 'EIO', kinds: KINDS };

const FOLDER_AT = 24;
const FOLDER_BYTES = 1024;
const TRACE_AT = FOLDER_AT + FOLDER_BYTES;
const TRACE_BYTES = 8192;

export interface Seen {
  /** Calls that counted, in their order. */
  readonly calls: readonly Kind[];
  /** The call at which the fault happened, the last one if there were several; null when there were not so many. */
  readonly hit: Kind | null;
}

export class FaultControl implements Disposable {
  readonly path: string;
  readonly #file: number;

  constructor(path: string) {
    this.path = path;
    this.#file = openSync(path, 'wx+');
    ftruncateSync(this.#file, TRACE_AT + TRACE_BYTES);
  }

  /** From now on calls on what lies under the folder are counted, from 0 on. */
  arm(folder: string, { act, at, error, kinds }: Fault): void {
    const bytes = Buffer.alloc(TRACE_AT);
    bytes.writeUInt32LE(ACTS.indexOf(act), 0);
    bytes.writeUInt32LE(at, 4);
    bytes.writeInt32LE(constants.errno[error], 8);
    bytes.writeUInt32LE(
      kinds.reduce((bits, kind) => bits | (1 << KINDS.indexOf(kind)), 0),
      12,
    );
    if (Buffer.byteLength(folder) >= FOLDER_BYTES) throw new Error(`${folder} is too long`);
    bytes.write(folder, FOLDER_AT);
    writeSync(this.#file, bytes, 0, bytes.length, 0);
  }

  seen(): Seen {
    const bytes = Buffer.alloc(TRACE_AT + TRACE_BYTES);
    readSync(this.#file, bytes, 0, bytes.length, 0);
    const count = bytes.readUInt32LE(16);
    if (count > TRACE_BYTES) throw new Error(`${count} calls: more than are kept`);
    const hit = bytes.readUInt32LE(20);
    const calls = [...bytes.subarray(TRACE_AT, TRACE_AT + count)].map((kind) => KINDS[kind] as Kind);
    return { calls, hit: hit === 0 ? null : (KINDS[hit - 1] as Kind) };
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}
