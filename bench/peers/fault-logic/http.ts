/**
 * One request as Python's clients make it: httpx and requests both take a timeout to connect and a timeout between bytes of the answer, raise for an error
 * status only, and read the body without looking at it.
 */
import { request } from 'node:http';
import { onAbort } from '../../../src/engines/on-abort.js';
import { StatusError, TransportError } from './peer.js';

export interface Call {
  readonly method?: 'GET' | 'POST';
  /** With its query. */
  readonly path: string;
  readonly body?: unknown;
  /** Milliseconds to connect; null waits for ever. */
  readonly connectMs: number | null;
  /** Milliseconds without a byte; null waits for ever. */
  readonly readMs: number | null;
  readonly signal: AbortSignal;
}

/**
 * The text of the answer, on a connection of its own: no fault is made worse by a pooled connection that has gone stale.
 *
 * @throws StatusError for 400 and above, TransportError where there is no whole answer
 */
export function send(url: string, call: Call): Promise<string> {
  const { method = 'POST', path, body, connectMs, readMs, signal } = call;
  const text = body === undefined ? null : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown): void => {
      reject(new TransportError(url, `${path}: ${why}`, { cause }));
    };
    const outgoing = request(url + path, {
      method,
      agent: false,
      headers:
        text === null
          ? { 'content-length': 0 }
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
    });
    // Not by the request's own option: it listens to the signal for longer than the request takes, and a push makes many of them.
    const release = onAbort(signal, () => give('aborted'));
    const connecting = connectMs === null ? undefined : setTimeout(() => give('connect timeout'), connectMs);
    const give = (why: string): void => {
      fail(why);
      outgoing.destroy();
    };
    outgoing.once('socket', (socket) => {
      socket.once('connect', () => {
        clearTimeout(connecting);
        if (readMs !== null) socket.setTimeout(readMs, () => give('read timeout'));
      });
    });
    outgoing.on('error', (error) => fail(error.message, error));
    outgoing.once('close', () => {
      clearTimeout(connecting);
      release();
    });
    outgoing.once('response', (answer) => {
      const pieces: Buffer[] = [];
      answer.on('data', (piece: Buffer) => pieces.push(piece));
      answer.on('error', (error) => fail(error.message, error));
      answer.once('end', () => {
        const status = answer.statusCode ?? 0;
        if (status >= 400) reject(new StatusError(url, path, status));
        else resolve(Buffer.concat(pieces).toString());
      });
    });
    if (signal.aborted) give('aborted');
    else outgoing.end(text ?? undefined);
  });
}
