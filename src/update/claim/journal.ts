/** The open record of a running push: what is asked is written before it is asked; what became of it follows when there is time. */
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { hasCode, WeightcastError } from '../../errors.js';
import type { EngineState, UpdateEvent } from '../types.js';
import { Stalled, unwritable, withinTime } from './filesystem.js';
import { inDoubt, parseRecord, type RecordEvent, type RecordedEngine, type RecordHead } from './record.js';
import { HEARTBEAT_MS } from './records.js';

export type Asked = Extract<RecordEvent, { event: 'ask' }>['what'];

/** What an update tells of itself, so that somebody else knows if it dies. */
export interface Journal {
  /** Resolves when it is written: then it may be asked. */
  ask(what: Asked, engines: readonly string[], directory?: string): Promise<void>;
  /** Nobody waits in a rendezvous any more, except perhaps the workers of these engines. */
  joined(stuck?: readonly string[]): Promise<void>;
  /** When the engines' processes started, in Unix seconds. */
  started(at: ReadonlyMap<string, number | null>): Promise<void>;
  /** Resolves when what was observed is written, while nobody else is known to have taken the engines over; @throws WeightcastError WC_UPDATE_BUSY when somebody has */
  mine(): Promise<void>;
}

/** Writes nothing. */
export const NO_JOURNAL: Journal = {
  ask: async () => {},
  joined: async () => {},
  started: async () => {},
  mine: async () => {},
};

/** The same journal; but where it can't be written that is told, and the work goes on. */
export function unlessUnwritable(journal: Journal, tell: (why: string) => void): Journal {
  const forgiving = (error: unknown) => {
    if (!hasCode(error, 'WC_STATE_DIR')) throw error;
    tell(`${error.message}: if this process is killed now, nobody will know how far it came`);
  };
  return {
    ask: (...request) => journal.ask(...request).catch(forgiving),
    joined: (stuck) => journal.joined(stuck).catch(forgiving),
    started: (at) => journal.started(at).catch(forgiving),
    mine: () => journal.mine(),
  };
}

const GONE = ['ENOENT', 'ESTALE'];
/** What became of engines is written so long after the first of them at most. */
const NEWS_MS = 20;

export class RecordFile implements Journal {
  readonly head: RecordHead;
  readonly file: string;
  readonly #handle: FileHandle;
  readonly #indexes: ReadonlyMap<string, number>;
  readonly #heart: NodeJS.Timeout;
  #bytes: number;
  #text: string;
  #writing: Promise<void> = Promise.resolve();
  /** A write hung. Those that followed it would be lines without what came before. */
  #broken: WeightcastError | null = null;
  /** Operations that have not ended. */
  #pending = 0;
  #beating = false;
  #news = new Map<string, EngineState>();
  #telling: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(head: RecordHead, file: string, handle: FileHandle, text: string) {
    this.head = head;
    this.file = file;
    this.#handle = handle;
    this.#text = text;
    this.#bytes = Buffer.byteLength(text);
    this.#indexes = new Map(head.engines.map(({ url }, index) => [url, index]));
    this.#heart = setInterval(() => void this.#beat(), HEARTBEAT_MS).unref();
  }

  /** Writes the record under a name of its own; it appears whole. @throws WeightcastError WC_STATE_DIR */
  static async create(directory: string, head: RecordHead): Promise<RecordFile> {
    const creating = RecordFile.#create(directory, head);
    try {
      return await withinTime(creating, directory);
    } catch (error) {
      // Should it come late, nobody wants it any more.
      creating.then((record) => record.close()).catch(() => {});
      throw error;
    }
  }

  static async #create(directory: string, head: RecordHead): Promise<RecordFile> {
    const file = `${directory}/${head.id}.push`;
    const unfinished = `${directory}/${head.id}.tmp`;
    const text = `${JSON.stringify(head)}\n`;
    let handle: FileHandle | null = null;
    try {
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_APPEND;
      handle = await open(unfinished, flags, 0o600);
      await handle.appendFile(text);
      await rename(unfinished, file);
      return new RecordFile(head, file, handle, text);
    } catch (cause) {
      await handle?.close().catch(() => {});
      await rm(unfinished, { force: true }).catch(() => {});
      throw unwritable(directory, cause);
    }
  }

  /** Unix milliseconds of the last write, by the clock of the filesystem: the one that other records' times are of. */
  async writtenAt(): Promise<number> {
    return (await withinTime(this.#handle.stat(), this.file)).mtimeMs;
  }

  async ask(what: Asked, engines: readonly string[], directory?: string): Promise<void> {
    if (engines.length === 0) return;
    this.#tell();
    const event = { event: 'ask', what, engines: this.#indexesOf(engines) } as const;
    await this.write(directory === undefined ? event : { ...event, directory });
  }

  joined(stuck: readonly string[] = []): Promise<void> {
    return this.write(
      stuck.length === 0 ? { event: 'joined' } : { event: 'joined', except: this.#indexesOf(stuck) },
    );
  }

  async started(at: ReadonlyMap<string, number | null>): Promise<void> {
    const known = [...at].flatMap(([url, seconds]) =>
      seconds === null ? [] : [[this.#indexOf(url), seconds]],
    );
    if (known.length > 0) await this.write({ event: 'started', at: Object.fromEntries(known) });
  }

  /** Takes note of an event of the update. Not awaited by anybody: what is lost of it makes a successor more careful, never less. */
  readonly observe = (event: UpdateEvent): void => {
    if (event.kind !== 'engine' || this.#closed) return;
    // A line for each answer of a large fleet would be written while it is paused.
    if (this.#news.size === 0) this.#telling = setTimeout(() => this.#tell(), NEWS_MS).unref();
    this.#news.set(event.engine, event.state);
  };

  /** Appends one event. @throws WeightcastError WC_STATE_DIR, WC_UPDATE_BUSY when somebody else has taken the engines over */
  write(event: RecordEvent): Promise<void> {
    if (this.#broken !== null) return Promise.reject(this.#broken);
    return this.#inTurn(() => this.#append(event));
  }

  async mine(): Promise<void> {
    // Where the filesystem hangs nothing can be known, and leaving engines paused is never the better end.
    if (this.#closed || (this.#broken !== null && this.#pending > 0)) return;
    // What follows may need it: an engine that is resumed and not known to be whole would be taken for broken.
    this.#tell();
    await this.#inTurn(async () => {
      if (await this.#isTakenOver()) throw takenOver(this.file);
    }).catch((error) => {
      if (hasCode(error, 'WC_UPDATE_BUSY')) throw error;
    });
  }

  /** The engines by these lines, in the order of the head. */
  engines(): readonly RecordedEngine[] {
    return parseRecord(this.#text)?.engines ?? [];
  }

  /** Resolves when all that was observed is written. @throws WeightcastError WC_STATE_DIR */
  async flush(): Promise<void> {
    this.#tell();
    if (this.#broken !== null) throw this.#broken;
    await this.#inTurn(async () => {});
  }

  /**
   * Ends the writing: leaves the record, with the reasons, where an engine needs help, else removes it. Safe to call twice. Where the filesystem hangs
   * this is done when it works again.
   *
   * @throws WeightcastError WC_STATE_DIR
   */
  async close(reasons: ReadonlyMap<string, string> = new Map()): Promise<void> {
    if (this.#closed) return;
    this.#tell();
    this.#closed = true;
    clearInterval(this.#heart);
    const ended = this.#inTurn(() => this.#end(reasons));
    if (this.#broken === null) return ended;
    ended.catch(() => {});
    throw this.#broken;
  }

  async #end(reasons: ReadonlyMap<string, string>): Promise<void> {
    const leaves = this.engines().some(inDoubt);
    const why = Object.fromEntries(
      [...reasons].map(([url, reason]) => [this.#indexOf(url), reason.slice(0, 4096)]),
    );
    if (leaves) await this.#append({ event: 'left', reasons: why }).catch(() => {});
    await this.#handle.close();
    if (!leaves) await rm(this.file, { force: true });
  }

  /** One after the other; what hangs keeps the others waiting, but nobody for them. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#pending += 1;
    const done = this.#writing.then(work).finally(() => {
      this.#pending -= 1;
    });
    this.#writing = done.catch(() => {});
    return withinTime(done, this.file).catch((error) => {
      if (hasCode(error, 'WC_STATE_DIR') && error.cause instanceof Stalled) this.#broken ??= error;
      throw error;
    });
  }

  /** Writes what has become of engines since the last line. */
  #tell(): void {
    clearTimeout(this.#telling);
    if (this.#news.size === 0) return;
    const states = Object.fromEntries([...this.#news].map(([url, state]) => [this.#indexOf(url), state]));
    this.#news = new Map();
    this.write({ event: 'state', states }).catch(() => {});
  }

  async #append(event: RecordEvent): Promise<void> {
    const line = `${JSON.stringify(event)}\n`;
    try {
      if (await this.#isTakenOver()) throw takenOver(this.file);
      await this.#handle.appendFile(line);
      this.#bytes += Buffer.byteLength(line);
      this.#text += line;
    } catch (cause) {
      throw cause instanceof WeightcastError ? cause : unwritable(this.file, cause);
    }
  }

  /** Another one's claim removes this record, or says in it that it is superseded. */
  async #isTakenOver(): Promise<boolean> {
    const [own, there] = await Promise.all([
      this.#handle.stat(),
      stat(this.file).catch((error: unknown) => {
        if (GONE.includes(String((error as NodeJS.ErrnoException).code))) return null;
        throw error;
      }),
    ]);
    if (own.nlink === 0 || there === null || there.ino !== own.ino) return true;
    if (own.size === this.#bytes) return false;
    // Not what was written here: it may also be half a line of a write that failed on a full disk.
    return parseRecord(await readFile(this.file, 'utf8'))?.superseded ?? true;
  }

  /** A write that changes nothing: the filesystem's own clock says when it was. */
  async #beat(): Promise<void> {
    // Each that hangs keeps a thread of the pool that all files and names of this process need.
    if (this.#beating) return;
    this.#beating = true;
    const file = await open(this.file, 'r+').catch(() => null);
    await file?.write('{', 0).catch(() => {});
    await file?.close().catch(() => {});
    this.#beating = false;
  }

  #indexesOf(urls: readonly string[]): number[] {
    return urls.map((url) => this.#indexOf(url));
  }

  #indexOf(url: string): number {
    const index = this.#indexes.get(url);
    if (index === undefined) throw new Error(`${url} is not in this record`);
    return index;
  }
}

function takenOver(file: string): WeightcastError {
  return new WeightcastError(
    'WC_UPDATE_BUSY',
    `this push was taken for dead, and another one took over (${file})`,
    {
      remedy: 'Look whether this process was frozen for longer than a minute; then push again.',
    },
  );
}
