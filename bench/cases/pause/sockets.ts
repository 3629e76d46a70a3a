/** The same requests again, as bytes that are made beforehand, over node:net: no client in Node can be quicker. Answers are not read, only awaited. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type Bare, groupsOf, type Load, type Requests, timed } from './bare.js';

interface Connection {
  readonly socket: Socket;
  /** Called when an answer comes: the stubs write each in one piece. */
  onAnswer: () => void;
}

export async function socketFanOut(urls: readonly string[], load: Load): Promise<Bare> {
  const connections = await Promise.all(urls.map(open));
  const ask = (connection: Connection, request: Buffer): Promise<void> =>
    new Promise((resolve) => {
      connection.onAnswer = resolve;
      connection.socket.write(request);
    });
  const encode = (requests: Requests) => requests.map(([path, body]) => bytesOf(path, body));
  const { pause, transfer, resume } = groupsOf(load);
  const groups = { pause: encode(pause), transfer: encode(transfer), resume: encode(resume) };
  const all = async (requests: readonly Buffer[]): Promise<number> => {
    const began = performance.now();
    await Promise.all(
      connections.map(async (connection) => {
        for (const request of requests) await ask(connection, request);
      }),
    );
    return performance.now() - began;
  };
  const health = [bytesOf('/health', null, 'GET')];
  return {
    run: async () => {
      await all(health);
      return timed(all, groups);
    },
    close: async () => {
      for (const { socket } of connections) socket.destroy();
    },
  };
}

async function open(url: string): Promise<Connection> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), noDelay: true });
  await once(socket, 'connect');
  const connection: Connection = { socket, onAnswer: () => undefined };
  socket.on('data', () => connection.onAnswer());
  return connection;
}

function bytesOf(path: string, body: string | null, method = 'POST'): Buffer {
  const text = body ?? '';
  return Buffer.from(
    `${method} ${path} HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  );
}
