/** A socket on loopback that keeps every byte of a request as it came, and answers as it is told. */
import { type AddressInfo, createServer, type Socket } from 'node:net';

export interface RawRequest {
  /** 'POST /pause?mode=keep&clear_cache=false HTTP/1.1' */
  readonly line: string;
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface RawAnswer {
  readonly status: number;
  readonly body?: unknown;
}

/** 'drop' hangs up; null never answers. */
export type RawHandler = (request: RawRequest, index: number) => RawAnswer | 'drop' | null;

export async function withRawServer(
  handler: RawHandler,
  use: (url: string, requests: readonly RawRequest[]) => Promise<void>,
): Promise<void> {
  const requests: RawRequest[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    let bytes = Buffer.alloc(0);
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      for (let parsed = parse(bytes); parsed !== null; parsed = parse(bytes)) {
        bytes = bytes.subarray(parsed.byteLength);
        const answer = handler(parsed.request, requests.push(parsed.request) - 1);
        if (answer === 'drop') socket.destroy();
        else if (answer !== null) socket.write(render(answer));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

function parse(bytes: Buffer): { readonly request: RawRequest; readonly byteLength: number } | null {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const [line = '', ...fields] = bytes.toString('latin1', 0, end).split('\r\n');
  const headers = Object.fromEntries(
    fields.map((field) => {
      const colon = field.indexOf(':');
      return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()];
    }),
  );
  const byteLength = end + 4 + Number(headers['content-length'] ?? 0);
  if (bytes.length < byteLength) return null;
  return { request: { line, headers, body: bytes.toString('utf8', end + 4, byteLength) }, byteLength };
}

function render({ status, body }: RawAnswer): string {
  const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  const type = body === undefined || typeof body === 'string' ? 'text/plain' : 'application/json';
  return `HTTP/1.1 ${status} Said\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}
