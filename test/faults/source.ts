/** Who names the engines of a fleet that is found: a resolver, or the RL listener of a Dynamo frontend, and what may go wrong there. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connectFleet, type FleetSession } from '../../src/update/index.js';
import type { FleetOptions } from '../../src/update/types.js';
import { connectFinding } from '../update/elastic-session.js';
import { bodyOf } from '../update/proxy.js';

/** How a fleet is found. */
export type Finding = 'dns' | 'listener';

/** One engine as it is found. */
export interface Findable {
  /** Of the proxy before it. */
  readonly url: string;
  /** As `--engine` takes it. */
  readonly name: string;
  /** Of a Dynamo worker, as it is now: its own address, its listener and its frontend. */
  deployed(): { readonly url: string; readonly listener: string; readonly frontend: string } | null;
}

export class Source {
  readonly #kind: Finding;
  readonly #engines: readonly Findable[];
  #server: Server | null = null;
  #url = '';
  #hidden: number | null = null;
  #fails: 'error' | 'empty' | null = null;

  private constructor(kind: Finding, engines: readonly Findable[]) {
    this.#kind = kind;
    this.#engines = engines;
  }

  static async open(kind: Finding, engines: readonly Findable[]): Promise<Source> {
    const source = new Source(kind, engines);
    if (kind === 'dns') return source;
    const server = createServer((request, response) => {
      source.#serve(request, response).catch(() => response.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    source.#server = server;
    source.#url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return source;
  }

  /** One engine is not named any more. */
  hide(engine: number): void {
    this.#hidden = engine;
  }

  /** Nobody is named: by an error, or by an answer that is empty. */
  fail(how: 'error' | 'empty'): void {
    this.#fails = how;
  }

  restore(): void {
    this.#hidden = null;
    this.#fails = null;
  }

  /** A session of those that it names. */
  connect(options: FleetOptions): Promise<FleetSession> {
    // Those who are found are looked for when a push begins, and not in between.
    const pool = { intervalMs: 3_600_000 };
    if (this.#kind === 'dns') return connectFinding({ ...options, pool }, this.#lookup);
    const discover = [`dynamo=${this.#url},rl=${this.#url}`];
    return connectFleet({ ...options, engines: [], discover, pool });
  }

  /** The resolver, with what else is known of an engine. */
  readonly #lookup = (): readonly string[] => {
    if (this.#fails === 'error') throw new Error('getaddrinfo EAI_AGAIN');
    return this.#named().map(({ name }) => name);
  };

  #named(): readonly Findable[] {
    return this.#fails === null ? this.#engines.filter((_, index) => index !== this.#hidden) : [];
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = (await bodyOf(request)).toString();
    if (request.url === '/v1/rl/workers') {
      const answer = this.#fails === 'error' ? null : await this.#listing();
      response.writeHead(answer === null ? 500 : 200, { 'content-type': 'application/json' });
      response.end(answer ?? '{"error":"etcd is gone"}');
      return;
    }
    const frontend = await this.#frontendFor(body);
    const answer = await fetch(`${frontend}${request.url}`, {
      method: request.method ?? 'GET',
      headers: { 'content-type': 'application/json' },
      ...(body === '' ? {} : { body }),
    });
    const text = await answer.text();
    response.writeHead(answer.status, { 'content-type': 'application/json' });
    response.end(text);
  }

  /** What the listeners of the deployments say, as one: by text, since no double holds an id. */
  async #listing(): Promise<string> {
    const workers = await Promise.all(
      this.#named().map(async ({ url, deployed }) => {
        const own = deployed();
        if (own === null) return [];
        const listing = await fetch(`${own.listener}/v1/rl/workers`).then((reply) => reply.text());
        const entry = /"workers":\[(.*)\]/s.exec(listing)?.[1] ?? '';
        return entry === '' ? [] : [entry.replace(`"${own.url}"`, `"${url}"`)];
      }),
    );
    return `{"protocol_version":1,"namespace":"dynamo","workers":[${workers.flat().join(',')}]}`;
  }

  /** That of the worker which the request names, or any that lives. */
  async #frontendFor(body: string): Promise<string> {
    const wanted = /"backend_instance_id":(\d+)/.exec(body)?.[1];
    let any = '';
    for (const { deployed } of this.#engines) {
      const own = deployed();
      if (own === null) continue;
      any = own.frontend;
      if (wanted === undefined) return any;
      const listing = await fetch(`${own.listener}/v1/rl/workers`).then((reply) => reply.text());
      if (listing.includes(`"instance_id":${wanted}`)) return any;
    }
    return any;
  }

  async close(): Promise<void> {
    const server = this.#server;
    if (server === null) return;
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}
