/** The HTTP server of a reference engine. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Dispatch } from './server/dispatch.js';
import { type Answer, failure } from './server/replies.js';
import type { Request } from './server/validation.js';

const MAX_BODY_BYTES = 256 << 20;

/** One request and its answer, as the engine saw them. Times are milliseconds since the Unix epoch. */
export interface RecordedExchange {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly contentType: string | null;
  readonly requestBody: string;
  readonly status: number;
  readonly responseBody: unknown;
  readonly receivedAt: number;
  readonly answeredAt: number;
}

export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  readonly dispatch: Dispatch;
  record(exchange: RecordedExchange): void;
}

/** Listens and resolves with the server, which serves until it is closed. */
export async function listen(options: ListenOptions): Promise<Server> {
  const server = createServer((incoming, outgoing) => {
    serve(incoming, outgoing, options).catch(() => outgoing.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  return server;
}

async function serve(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { dispatch, record }: ListenOptions,
): Promise<void> {
  const receivedAt = Date.now();
  const gone = new AbortController();
  outgoing.once('close', () => gone.abort());
  const url = new URL(incoming.url ?? '/', 'http://engine');
  const text = await bodyOf(incoming);
  if (text === null) {
    send(outgoing, failure(413, 'Request Entity Too Large', 'the body is too large'));
    return;
  }
  const request: Request = {
    method: incoming.method ?? 'GET',
    path: url.pathname,
    query: url.searchParams,
    contentType: incoming.headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? null,
    authorization: incoming.headers.authorization ?? null,
    text,
  };
  const answer = await dispatch(request, gone.signal);
  record({
    method: request.method,
    path: request.path,
    query: url.search.slice(1),
    contentType: request.contentType,
    requestBody: text,
    status: answer.status,
    responseBody: answer.body,
    receivedAt,
    answeredAt: Date.now(),
  });
  send(outgoing, answer);
}

async function bodyOf(incoming: IncomingMessage): Promise<string | null> {
  const pieces: Buffer[] = [];
  let byteLength = 0;
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    byteLength += piece.length;
    if (byteLength > MAX_BODY_BYTES) {
      return null;
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}

function send(outgoing: ServerResponse, { status, contentType, body }: Answer): void {
  const text = body === null ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  outgoing.statusCode = status;
  if (contentType !== null) {
    outgoing.setHeader('content-type', contentType);
  }
  outgoing.end(text);
}
