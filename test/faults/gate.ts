/** The proxy before one engine: it passes requests on, and does to chosen ones what a network or a server may do. */
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { bodyOf, type Upstream, upstreamOf } from '../update/proxy.js';
import type { Asked } from './dialect.js';

export interface Seen {
  readonly method: string;
  /** What is asked for, by vLLM's name for it. */
  readonly path: string;
  readonly body: string;
}

/** What becomes of one request. */
export interface Deed {
  /** Whether the engine gets it; a function: once its promise resolves, and nobody is answered. It is told when the client has given up. */
  readonly forward: 'now' | 'never' | ((gone: Promise<void>) => Promise<void>);
  /** What the client gets. */
  readonly reply:
    | { readonly kind: 'pass' | 'reset' | 'none' | 'flood' | 'drip' }
    | { readonly kind: 'answer'; readonly status: number; readonly text: string };
  /** Milliseconds before the answer leaves. */
  readonly delayMs?: number;
  /** Before the engine gets it. */
  readonly before?: () => Promise<void>;
  /** After the engine answered, before the client hears of it. */
  readonly after?: () => Promise<void>;
  readonly alter?: (body: string) => string;
}

/** Decides what becomes of a request; null passes it. */
export type Decide = (seen: Seen) => Deed | null;

const PASS: Deed = { forward: 'now', reply: { kind: 'pass' } };
const DRIP_MS = 40;
const FLOOD = Buffer.alloc(1 << 20, 'x');

export interface GateOptions {
  /** By which faults strike, and requests are counted; default: their paths. */
  readonly nameOf?: (asked: Asked) => string;
}

export class Gate {
  /** Requests by what they ask for, as the client sent them; since the last {@link forget}. */
  readonly sent = new Map<string, number>();
  /** Called after each answer of the engine. */
  onAnswered: (path: string) => void = () => undefined;
  #target: string;
  readonly #nameOf: (asked: Asked) => string;
  readonly #agent = new Agent({ keepAlive: true, keepAliveMsecs: 1000, timeout: 1500 });
  readonly #server = createServer((incoming, outgoing) => {
    this.#serve(incoming, outgoing).catch(() => outgoing.destroy());
  });
  readonly #sockets = new Set<Socket>();
  #decide: Decide = () => null;
  #port = 0;
  #closed = false;
  #atEngine = 0;

  private constructor(target: string, { nameOf }: GateOptions) {
    this.#target = target;
    this.#nameOf = nameOf ?? (({ path }) => path);
    // The client closes idle connections after 2 s.
    this.#server.keepAliveTimeout = 10_000;
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  static async open(target: string, options: GateOptions = {}): Promise<Gate> {
    const gate = new Gate(target, options);
    await gate.accept();
    return gate;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Requests that the engine has got and not answered. */
  get atEngine(): number {
    return this.#atEngine;
  }

  /** Another engine answers from now on. */
  retarget(url: string): void {
    this.#target = url;
  }

  decide(decide: Decide): void {
    this.#decide = decide;
  }

  /** From now on nobody listens. */
  refuse(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Listens (again), on the same port; not once it is closed. */
  async accept(): Promise<void> {
    if (this.#server.listening || this.#closed) return;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#port, '127.0.0.1', () => resolve());
    });
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** No rule, no counts, listening. */
  async forget(): Promise<void> {
    this.#decide = () => null;
    this.onAnswered = () => undefined;
    this.sent.clear();
    await this.accept();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#agent.destroy();
    if (this.#server.listening) {
      const closed = new Promise((resolve) => this.#server.close(resolve));
      this.#server.closeAllConnections();
      await closed;
    }
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    outgoing.on('error', () => undefined);
    const body = await bodyOf(incoming);
    const { pathname } = new URL(incoming.url ?? '/', this.#target);
    const method = incoming.method ?? 'GET';
    const path = this.#nameOf({ path: pathname, body: body.toString() });
    if (method === 'POST') this.sent.set(path, (this.sent.get(path) ?? 0) + 1);
    const deed = this.#decide({ method, path, body: body.toString() }) ?? PASS;
    await deed.before?.();
    const altered = deed.alter === undefined ? body : Buffer.from(deed.alter(body.toString()));
    const answer = await this.#forward(deed, altered, { incoming, outgoing });
    await deed.after?.();
    if (deed.delayMs !== undefined) await sleep(deed.delayMs);
    this.#reply(deed, outgoing, answer);
    if (answer !== null) this.onAnswered(path);
  }

  async #forward(
    { forward }: Deed,
    body: Buffer,
    { incoming, outgoing }: { readonly incoming: IncomingMessage; readonly outgoing: ServerResponse },
  ): Promise<Upstream | null> {
    if (forward === 'never') return null;
    if (forward === 'now') return this.#pass(incoming, body);
    const gone = new Promise<void>((resolve) => outgoing.once('close', resolve));
    void forward(gone)
      .then(() => this.#pass(incoming, body))
      .catch(() => undefined);
    return null;
  }

  async #pass(incoming: IncomingMessage, body: Buffer): Promise<Upstream> {
    this.#atEngine += 1;
    try {
      return await pass(this.#target, { agent: this.#agent, incoming, body });
    } finally {
      this.#atEngine -= 1;
    }
  }

  #reply({ reply }: Deed, outgoing: ServerResponse, answer: Upstream | null): void {
    switch (reply.kind) {
      case 'pass':
        if (answer === null) outgoing.destroy();
        else write(outgoing, answer.status, answer.contentType, answer.body);
        return;
      case 'reset':
        outgoing.socket?.resetAndDestroy();
        return;
      case 'none':
        return;
      case 'answer':
        write(outgoing, reply.status, 'application/json', Buffer.from(reply.text));
        return;
      case 'flood':
        flood(outgoing);
        return;
      case 'drip':
        drip(outgoing);
    }
  }
}

function write(outgoing: ServerResponse, status: number, contentType: string, body: Buffer): void {
  outgoing.writeHead(status, { 'content-type': contentType, 'content-length': body.byteLength });
  outgoing.end(body);
}

function flood(outgoing: ServerResponse): void {
  outgoing.writeHead(200, { 'content-type': 'application/json' });
  const more = (): void => {
    while (!outgoing.destroyed && outgoing.write(FLOOD));
  };
  outgoing.on('drain', more);
  more();
}

function drip(outgoing: ServerResponse): void {
  outgoing.writeHead(200, { 'content-type': 'application/json' });
  const timer = setInterval(() => outgoing.write(' '), DRIP_MS);
  outgoing.once('close', () => clearInterval(timer));
}

/** Passes a request on. One that the client gave up stays with the engine, as it does with a real server. */
function pass(
  target: string,
  sent: { readonly agent: Agent; readonly incoming: IncomingMessage; readonly body: Buffer },
): Promise<Upstream> {
  const { agent, incoming, body } = sent;
  const { 'transfer-encoding': _, connection: __, ...headers } = incoming.headers;
  return new Promise((resolve, reject) => {
    const passed = request(
      target + (incoming.url ?? '/'),
      { agent, method: incoming.method, headers: { ...headers, 'content-length': body.byteLength } },
      (answer) => resolve(upstreamOf(answer)),
    );
    passed.once('error', reject);
    passed.end(body);
  });
}
