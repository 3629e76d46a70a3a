/** A real HTTP server on loopback for one test: what it got, and what it answers. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { EngineTarget } from '../../src/engines/http.js';

export interface Received {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  /** Client port: tells connections apart. */
  readonly port: number;
}

export type Handler = (request: Received, response: ServerResponse, socket: Socket) => void | Promise<void>;

export interface TestServer {
  readonly url: string;
  readonly target: EngineTarget;
  readonly received: Received[];
}

/** Runs `use` with a server, and closes it with every connection. */
export async function withServer(
  handler: Handler,
  use: (server: TestServer) => Promise<void>,
): Promise<void> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('error', () => response.destroy());
    request.on('end', () => {
      const url = new URL(request.url ?? '/', 'http://server');
      const seen: Received = {
        method: request.method ?? '',
        path: url.pathname,
        query: Object.fromEntries(url.searchParams),
        headers: request.headers,
        body: Buffer.concat(chunks).toString('utf8'),
        port: request.socket.remotePort ?? 0,
      };
      received.push(seen);
      void handler(seen, response, request.socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    await use({ url, target: target(url), received });
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

export function target(url: string, changes: Partial<EngineTarget> = {}): EngineTarget {
  return {
    id: url,
    backend: 'vllm',
    url,
    headers: {},
    apiKey: null,
    workers: null,
    inferenceUrl: null,
    parameters: {},
    ...changes,
  };
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
