import type { AddressInfo } from 'node:net';
import { createServer, type Socket } from 'node:net';
import type { EngineTarget } from '../../../src/engines/http.js';
import { target } from '../../engines/server.js';

/** A server on loopback that answers every request with whatever bytes `answer` writes; HTTP only if they are. */
export async function withRawServer(
  answer: (socket: Socket) => void,
  use: (engine: EngineTarget) => Promise<void>,
): Promise<void> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.once('data', () => answer(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await use(target(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

export const head = (headers: readonly string[], status = '200 OK'): string =>
  [`HTTP/1.1 ${status}`, ...headers, '', ''].join('\r\n');

/**
 * Writes `chunk` for as long as it is taken. A write that failed calls back before its socket counts as destroyed, and so does at once whatever is written
 * from there: without a look at the error that goes round until the memory is full.
 */
export function endlessly(socket: Socket, chunk: string | Uint8Array): void {
  const more = (error?: Error | null): void => {
    if (!error && !socket.destroyed) socket.write(chunk, more);
  };
  more();
}
