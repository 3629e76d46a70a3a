/** An HTTP proxy before one engine, which says or does something else at chosen requests. */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * What happens to one request.
 * answer: the engine never sees it · rewrite: the engine does it, and another body is answered · lose: the engine does it, and the connection
 * drops before the answer · drop: the connection drops and the engine never sees it · silence: nobody ever answers ·
 * late: nobody answers, and the engine does it once `until` has resolved · watch: passes unchanged, once `seen` was called, and has
 * resolved
 */
export type Step =
  | { readonly kind: 'answer'; readonly status?: number; readonly body: unknown }
  | { readonly kind: 'rewrite'; readonly body: (body: unknown) => unknown }
  | { readonly kind: 'lose' }
  | { readonly kind: 'drop' }
  | { readonly kind: 'silence' }
  | { readonly kind: 'late'; readonly until: Promise<void> }
  | { readonly kind: 'watch'; readonly seen: () => void | Promise<void> };

export interface ScriptedProxy {
  readonly url: string;
  /** Paths of the POST requests that came in, in their order. */
  readonly posts: readonly string[];
  /** Sets what happens to the nth request (from 1, counted from now) of a path; without `nth` to each of them. */
  on(path: string, step: Step, nth?: number): void;
  /** Forgets every step: all requests pass. */
  clear(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

interface Rule {
  readonly path: string;
  readonly step: Step;
  readonly nth: number | null;
  seen: number;
}

const MAX_BODY_BYTES = 4 << 20;

/** What an engine answered. */
export interface Upstream {
  readonly status: number;
  readonly contentType: string;
  readonly body: Buffer;
}

/** Starts a proxy on a free port of loopback; it ends, with every connection, when it is disposed of. */
export async function scriptedProxy(target: string): Promise<ScriptedProxy> {
  const posts: string[] = [];
  const rules: Rule[] = [];

  const stepOf = (path: string): Step | null => {
    let found: Step | null = null;
    for (const rule of rules) {
      if (rule.path !== path) continue;
      rule.seen += 1;
      if (rule.nth === null || rule.nth === rule.seen) found ??= rule.step;
    }
    return found;
  };

  const serve = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const body = await bodyOf(incoming);
    const path = new URL(incoming.url ?? '/', target).pathname;
    if (incoming.method === 'POST') posts.push(path);
    const step = stepOf(path);
    switch (step?.kind) {
      case 'silence':
        return;
      case 'drop':
        outgoing.destroy();
        return;
      case 'late':
        await step.until;
        await forward(target, incoming, null, body);
        return;
      case 'answer':
        reply(outgoing, step.status ?? 200, 'application/json', JSON.stringify(step.body));
        return;
      case 'watch':
        await step.seen();
    }
    const upstream = await forward(target, incoming, outgoing, body);
    if (step?.kind === 'lose') {
      outgoing.destroy();
      return;
    }
    const text =
      step?.kind === 'rewrite'
        ? JSON.stringify(step.body(JSON.parse(upstream.body.toString())))
        : upstream.body;
    reply(outgoing, upstream.status, upstream.contentType, text);
  };

  const server = createServer((incoming, outgoing) => {
    serve(incoming, outgoing).catch(() => outgoing.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    posts,
    on: (path, step, nth) => {
      rules.push({ path, step, nth: nth ?? null, seen: 0 });
    },
    clear: () => {
      rules.length = 0;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function reply(outgoing: ServerResponse, status: number, contentType: string, body: string | Buffer): void {
  outgoing.writeHead(status, { 'content-type': contentType });
  outgoing.end(body);
}

/** Passes the request on; a client that goes away takes the engine's request with it, unless there is none to wait for. */
function forward(
  target: string,
  incoming: IncomingMessage,
  outgoing: ServerResponse | null,
  body: Buffer,
): Promise<Upstream> {
  return new Promise((resolve, reject) => {
    const passed = request(
      target + (incoming.url ?? '/'),
      // A connection each: a server that closes one after an error must not take the next request with it.
      { method: incoming.method, headers: { ...incoming.headers, connection: 'close' }, agent: false },
      (answer) => resolve(upstreamOf(answer)),
    );
    passed.once('error', reject);
    outgoing?.once('close', () => passed.destroy());
    passed.end(body);
  });
}

/** The whole answer. */
export async function upstreamOf(answer: IncomingMessage): Promise<Upstream> {
  return {
    status: answer.statusCode ?? 502,
    contentType: answer.headers['content-type'] ?? 'application/json',
    body: await bodyOf(answer),
  };
}

/** @throws Error beyond MAX_BODY_BYTES */
export async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let byteLength = 0;
  for await (const piece of message as AsyncIterable<Buffer>) {
    byteLength += piece.length;
    if (byteLength > MAX_BODY_BYTES) throw new Error('a test sends more than its proxy carries');
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
