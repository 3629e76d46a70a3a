import { answers, freePort, type ProcessGroup, startGroup, untilReady } from '../group.js';
import type { PythonEnvironment } from '../venv.js';
import type { Plane } from './plane.js';

/** One entry of the real `GET /v1/rl/workers`; the id as text, for a double can't hold it. */
export interface RlWorker {
  readonly namespace: string;
  readonly component: string;
  readonly endpoint: string;
  readonly instance_id: string;
  readonly transport: Readonly<Record<string, string>>;
  readonly request_plane_url: string;
  readonly system_url?: string;
  readonly model?: string;
  readonly routes: readonly string[];
  readonly world_size?: number;
  readonly error?: string;
}

export interface RlWorkers {
  readonly protocol_version: number;
  readonly namespace: string;
  readonly workers: readonly RlWorker[];
}

/** A real `dynamo.frontend` and its RL listener. */
export interface Frontend {
  readonly url: string;
  readonly rlUrl: string;
  readonly ports: { readonly http: number; readonly rl: number };
  readonly group: ProcessGroup;
  /** `GET /v1/rl/workers` */
  rlWorkers(): Promise<RlWorkers>;
  /** Ids of `GET /v1/models`, sorted. */
  models(): Promise<readonly string[]>;
}

export interface FrontendOptions {
  readonly python: PythonEnvironment;
  readonly plane: Plane;
  /** Default: 'test'. */
  readonly namespace?: string;
  /** Default: free ports. */
  readonly ports?: Frontend['ports'];
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts the real frontend and waits until both of its listeners answer. */
export async function startFrontend(options: FrontendOptions): Promise<Frontend> {
  const { python, plane, namespace = 'test' } = options;
  const ports = options.ports ?? { http: await freePort(), rl: await freePort() };
  const group = await startGroup(
    [python.python, '-m', 'dynamo.frontend', '--http-host', '127.0.0.1', '--http-port', String(ports.http)],
    {
      env: {
        ...plane.env,
        DYN_NAMESPACE: namespace,
        DYN_ENABLE_RL: '1',
        DYN_RL_PORT: String(ports.rl),
        DYN_RL_REQUEST_TIMEOUT_SECS: '4', // less than the 5 s of the request plane itself, which words it otherwise
        ...options.env,
      },
    },
  );
  const url = `http://127.0.0.1:${ports.http}`;
  const rlUrl = `http://127.0.0.1:${ports.rl}`;
  await untilReady(
    'the frontend',
    group,
    60_000,
    async () => (await answers(`${url}/live`)) && (await answers(`${rlUrl}/v1/rl/workers`)),
  );
  return {
    url,
    rlUrl,
    ports,
    group,
    rlWorkers: async () => {
      const reply = await fetch(`${rlUrl}/v1/rl/workers`, { signal: AbortSignal.timeout(20_000) });
      const text = await reply.text();
      if (!reply.ok) throw new Error(`/v1/rl/workers: ${reply.status} ${text.slice(0, 500)}`);
      return JSON.parse(text.replace(/"instance_id":(\d+)/g, '"instance_id":"$1"')) as RlWorkers;
    },
    models: async () => {
      const reply = await fetch(`${url}/v1/models`, { signal: AbortSignal.timeout(20_000) });
      const { data } = (await reply.json()) as { data: { id: string }[] };
      return data.map((model) => model.id).sort();
    },
  };
}
