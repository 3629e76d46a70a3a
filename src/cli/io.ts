/** Where a command writes and what it is told by its surroundings; tests pass their own. */

export interface Sink {
  readonly isTerminal: boolean;
  readonly columns: number;
  /** Whether colours are wanted: a terminal, and NO_COLOR is not set. */
  readonly color: boolean;
  write(text: string): void;
}

export interface Io {
  readonly out: Sink;
  readonly err: Sink;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The process's own streams. A reader that went away (EPIPE, a closed terminal) must not end an update half-way. */
export function processIo(): Io {
  return { out: sink(process.stdout), err: sink(process.stderr), env: process.env };
}

function sink(stream: NodeJS.WriteStream): Sink {
  let gone = false;
  stream.on('error', () => {
    gone = true;
  });
  const isTerminal = stream.isTTY === true && process.env.TERM !== 'dumb';
  return {
    isTerminal,
    color: isTerminal && (process.env.NO_COLOR ?? '') === '',
    get columns() {
      // Pseudo terminals that nobody has sized say 0.
      return stream.columns || 80;
    },
    write(text) {
      if (!gone) stream.write(text);
    },
  };
}

/** Ends the process once what was written has left it. */
export async function exitAfterFlush(code: number): Promise<never> {
  const flushed = Promise.all(
    [process.stdout, process.stderr].map(
      (stream) => new Promise<void>((resolve) => stream.write('', () => resolve())),
    ),
  );
  // A reader that stopped reading must not keep the process.
  await Promise.race([flushed, new Promise((resolve) => setTimeout(resolve, 2000).unref())]);
  process.exit(code);
}
