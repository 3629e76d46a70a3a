/**
 * Every recorded exchange of real vLLM servers that a reference engine serves, asked of the reference engine of that version:
 * status, content type and body must be what the real server gave. The recordings hold each distinct exchange once, so the state
 * that an exchange needs (a session that is open or not) is arranged from what the real server said.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Core } from '../../../src/testing/server/core.js';
import { type Dispatch, dispatcher } from '../../../src/testing/server/dispatch.js';
import { profileOf, VLLM_VERSIONS, type VllmVersion } from '../../../src/testing/server/profile.js';
import { routesOf } from '../../../src/testing/server/routes.js';
import { INTACT, type Session } from '../../../src/testing/server/session.js';
import { FakeWorkers } from './fake-workers.js';

interface Exchange {
  readonly phase: string;
  readonly section: string;
  readonly method?: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
  readonly status: number;
  readonly content_type: string | null;
  readonly response: unknown;
  readonly note?: string;
}

const vectors = new URL('../../vectors/vllm/', import.meta.url);
const read = (name: string): unknown => JSON.parse(readFileSync(new URL(name, vectors), 'utf8'));

const models = mkdtempSync(join(tmpdir(), 'weightcast-replay-'));
for (const name of ['lora1', 'lora2']) {
  mkdirSync(join(models, name));
  writeFileSync(join(models, name, 'adapter_config.json'), '{}');
}
afterAll(() => rmSync(models, { recursive: true }));

const SECTIONS = [
  'basic',
  'pause-idle',
  'cache',
  'collective_rpc',
  'weight-transfer-unconfigured',
  'versioning',
  'errors-4xx',
  'lora',
  'auth',
  'wt-order',
  'wt-init',
  'no-dev-mode',
  'keep-pause-policy',
];
/** Routes that a reference engine lists and does not serve. */
const UNSERVED = /^\/(server_info|sleep|wake_up|inference|adapters|tokenize|invocations|v1\/chat)/;
/** Failures of a CPU build of vLLM that a GPU does not have, and answers of an engine that had died. */
const CPU_ONLY = /device\(\) received|NVIDIA driver|EngineCore encountered/;

function replayable(exchange: Exchange): boolean {
  const said = JSON.stringify(exchange.response);
  return (
    exchange.method !== undefined &&
    SECTIONS.includes(exchange.section) &&
    !UNSERVED.test(exchange.path) &&
    !CPU_ONLY.test(said) &&
    !said.includes('…[') &&
    !/in flight|mini TCPStore|all-zero/.test(exchange.note ?? '') &&
    !(exchange.path === '/v1/completions' && exchange.status === 200) &&
    !(exchange.path === '/v1/completions' && exchange.note === 'after unload')
  );
}

/** The session that the real server must have had, judged by its answer. */
function arrange(exchange: Exchange): Session | null {
  const said = JSON.stringify(exchange.response);
  const open: Session = { active: true, stripped: true, received: 0, failed: false };
  if (/must be called before|without a matching/.test(said)) {
    return INTACT;
  }
  if (/already active/.test(said)) {
    return open;
  }
  switch (exchange.path) {
    case '/start_weight_update':
      return INTACT;
    case '/update_weights':
    case '/finish_weight_update':
      return open;
    case '/shutdown_weight_transfer_engine':
      return exchange.status === 500 ? open : INTACT;
    default:
      return null;
  }
}

/** The adapters that the real server must have had. */
function arrangeAdapters(loras: Map<string, string>, exchange: Exchange): void {
  const body = exchange.body as { lora_name?: string } | null;
  const name = body?.lora_name ?? '';
  const said = JSON.stringify(exchange.response);
  if (exchange.path === '/v1/unload_lora_adapter' && exchange.status === 200) {
    loras.set(name, '/models/lora1');
  } else if (exchange.path.endsWith('_lora_adapter') && !/already been loaded/.test(said)) {
    loras.delete(name);
  }
}

function server(
  version: VllmVersion,
  exchange: Exchange,
  unconfigured: boolean,
): { core: Core; ask: Dispatch } {
  const options = {
    profile: profileOf(version),
    servedModelName: 'tiny',
    model: '/models/m1',
    weightTransfer: !unconfigured,
    tokenMs: 0,
    maxModelLen: 512,
  };
  const core = new Core(options, new FakeWorkers(), () => undefined);
  const gated = exchange.section !== 'no-dev-mode';
  const keyed = exchange.section === 'auth' || 'Authorization' in exchange.headers;
  const access = { apiKey: keyed ? 'secret' : null, devMode: gated, loraUpdating: gated };
  return { core, ask: dispatcher(core, access) };
}

const bodyText = (body: unknown): string =>
  (body === null ? '' : typeof body === 'string' ? body : JSON.stringify(body)).replaceAll(
    '/models/lora',
    `${models}/lora`,
  );

/** Without what differs from server to server: ids, times, paths, and the source lines that old versions append. */
function comparable(value: unknown): unknown {
  const text = JSON.stringify(value ?? '')
    .replaceAll(models, '/models')
    .replaceAll('/models/empty', '<path>')
    .replace(/\/models\/lora\d/g, '<path>')
    .replace(/modelperm-\w+/g, 'modelperm')
    .replace(/"created":\d+/g, '"created":0')
    .replace(/\\n\\n {2}File .*?", "?type/s, '","type')
    .replace(/\\n\\n {2}File .*?","type/s, '","type');
  return JSON.parse(text);
}

for (const version of VLLM_VERSIONS) {
  describe(`a reference engine of vLLM ${version}`, () => {
    const exchanges = (read(`${version}.json`) as Exchange[]).filter(replayable);

    it('lists the routes that the real server listed', () => {
      const recorded = read(`routes-${version}.json`) as Record<string, string[]>;
      const ours = [...routesOf(version, { devMode: true, loraUpdating: true })].map(([path, methods]) => [
        path,
        methods.map((method) => method.toLowerCase()).sort(),
      ]);
      expect(Object.fromEntries(ours)).toEqual(recorded);
    });

    it.each(SECTIONS)('answers what the real server answered: %s', async (section) => {
      const recorded = exchanges.filter((exchange) => exchange.section === section);
      const unconfigured = recorded.some((exchange) =>
        JSON.stringify(exchange.response).includes('not configured'),
      );
      let current: { phase: string; core: Core; ask: Dispatch } | undefined;
      for (const exchange of recorded) {
        if (current?.phase !== exchange.phase) {
          current = { phase: exchange.phase, ...server(version, exchange, unconfigured) };
        }
        const session = arrange(exchange);
        if (session !== null && profileOf(version).rounds === 'three-step') {
          current.core.session = session;
        }
        arrangeAdapters(current.core.loras, exchange);
        const text = bodyText(exchange.body);
        const answer = await current.ask(
          {
            method: exchange.method ?? 'GET',
            path: exchange.path,
            query: new URLSearchParams(exchange.query),
            contentType: exchange.headers['Content-Type'] ?? null,
            authorization: exchange.headers.Authorization ?? null,
            text,
          },
          new AbortController().signal,
        );
        const what = `${exchange.method} ${exchange.path}?${exchange.query} ${text.slice(0, 200)}`;
        expect({ what, status: answer.status, type: answer.contentType }).toEqual({
          what,
          status: exchange.status,
          type: exchange.content_type,
        });
        if (!/weight_checker|list_loras|\/v1\/models/.test(what) || exchange.status !== 200) {
          expect({ what, body: comparable(answer.body) }).toEqual({
            what,
            body: comparable(exchange.response),
          });
        }
      }
    });

    it('was compared with most of what was recorded', () => {
      expect(exchanges.length).toBeGreaterThan(55);
    });
  });
}
