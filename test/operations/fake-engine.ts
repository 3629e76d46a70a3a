/** Engines of prime-rl's shape, by the routes that its client uses: what was asked of each, and what it answers. */
import type { EngineAdmin, Exchange, Reply } from '../../src/engines/admin.js';
import type { EngineTarget } from '../../src/engines/http.js';
import { vllmAdmin } from '../../src/engines/vllm/admin.js';
import { selectDialect } from '../../src/engines/vllm-native/dialects.js';
import { WeightcastError } from '../../src/errors.js';
import { type Handler, type Received, sendJson, withServer } from '../engines/server.js';

/** Answers of the routes by path; 200 with what prime-rl says where nothing is given. */
export type Answers = Readonly<Record<string, (seen: Received) => readonly [number, unknown]>>;

const OK: Readonly<Record<string, unknown>> = {
  '/pause': { status: 'paused' },
  '/resume': { status: 'resumed' },
};

export interface FakeEngine {
  readonly url: string;
  readonly asked: readonly string[];
  readonly bodies: ReadonlyMap<string, unknown>;
}

export async function withFakes(
  answers: readonly Answers[],
  use: (engines: readonly FakeEngine[]) => Promise<void>,
  started: readonly FakeEngine[] = [],
): Promise<void> {
  const [first, ...others] = answers;
  if (first === undefined) return use(started);
  const asked: string[] = [];
  const bodies = new Map<string, unknown>();
  const handler: Handler = (seen, response) => {
    asked.push(seen.path);
    bodies.set(seen.path, seen.body === '' ? null : JSON.parse(seen.body));
    const [status, body] = first[seen.path]?.(seen) ?? [200, OK[seen.path] ?? { status: 'ok' }];
    sendJson(response, status, body);
  };
  await withServer(handler, ({ url }) => withFakes(others, use, [...started, { url, asked, bodies }]));
}

/** The operations of a prime-rl server, as far as these tests need them. */
export function fakeAdmin({ id }: EngineTarget): EngineAdmin {
  const base = vllmAdmin({ engine: id, version: '0.28.0', notes: [] }, selectDialect('0.28.0', id).dialect);
  const post = (path: string, body: object | null, budget: Exchange<void>['budget']): Exchange<void> => ({
    operation: path.slice(1),
    method: 'POST',
    path,
    query: {},
    body,
    retryable: false,
    budget,
    read: (reply: Reply) => {
      if (reply.status === 200) return;
      throw new WeightcastError('WC_ENGINE_HTTP', `${path} answered ${reply.status}`, {
        engine: id,
        details: { status: reply.status },
      });
    },
  });
  return {
    ...base,
    backend: 'prime-rl',
    pause: () => post('/pause', null, 'pause'),
    resume: () => post('/resume', null, 'pause'),
    reloadFromDisk: () => null,
    updateWeights: ({ directory }) => post('/update_weights', { weight_dir: directory }, 'update'),
    initBroadcaster: (seat) => post('/init_broadcaster', seat, 'init'),
    loadLoraAdapter: ({ name, path }) =>
      post('/load_lora_adapter', { lora_name: name, lora_path: path }, 'load'),
    unloadLoraAdapter: ({ name }) => post('/unload_lora_adapter', { lora_name: name }, 'load'),
  };
}
