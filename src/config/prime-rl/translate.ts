/** From prime-rl's names to weightcast's. */
import { shareWorkers } from '../../fleet/shares.js';
import type { Settings } from '../schema.js';
import { addressOf, listOf } from './address.js';
import { discoveryOf, discoverySettings, type PrimeRlDiscovery } from './discovery.js';
import type { BroadcastTable, ClientTable } from './schema.js';
import { broadcastTable, clientTable, invalid, launchedWorkers, modelName } from './tables.js';

/** What prime-rl takes when nothing is said. */
const DEFAULTS = { baseUrl: 'http://localhost:8000/v1', apiKeyVar: 'VLLM_API_KEY' };

/** A prime-rl file as weightcast understands it. */
export interface PrimeRlConfig {
  /** Of the update, under weightcast's names; `discover` or `elastic` where engines have to be found. */
  readonly settings: Settings;
  readonly discovery: PrimeRlDiscovery | null;
  readonly inference: {
    readonly transport: 'vllm_generate' | 'dynamo_chat';
    /** Without /v1: the router where there is one. */
    readonly urls: readonly string[];
    /** Header name → field of a rollout's state. */
    readonly headersFromState: Readonly<Record<string, string>>;
  };
  /** What every engine must serve; null where the file does not say. */
  readonly model: string | null;
  readonly skipModelCheck: boolean;
  readonly waitForReadyMs: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws WeightcastError WC_CONFIG_INVALID, which names the key */
export function translate(file: unknown, env: Environment): PrimeRlConfig {
  const client = clientTable(file);
  const broadcast = broadcastTable(file);
  refuse(client, broadcast);
  const isDynamo = client.backend === 'dynamo' || client.dynamo?.enabled === true;
  const served = listOf(client.base_url ?? DEFAULTS.baseUrl).map(addressOf);
  const discovery = discoveryOf(client, served, env);
  const urls = discovery === null ? listOf(client.admin_base_url ?? served).map(addressOf) : [];
  const workers =
    broadcast?.type === 'nccl' && urls.length > 0 ? workersOf(urls, broadcast, launchedWorkers(file)) : null;
  const engine = urls.map((url, index) => ({
    url,
    backend: isDynamo ? 'dynamo' : 'prime-rl',
    ...(workers === null ? {} : { workers: workers[index] ?? 1 }),
    ...(isDynamo ? { inference: served[0] ?? url } : {}),
    // Its workers are prime-rl's worker extension then, whose methods join and receive.
    ...(isDynamo && broadcast?.type === 'nccl' ? { parameters: { rpc: 'prime-rl' } } : {}),
  }));
  const model = modelName(file);
  const skipModelCheck = client.skip_model_check ?? false;
  const router = client.router_url === undefined ? null : addressOf(client.router_url);
  return {
    settings: {
      ...(engine.length === 0 ? {} : { engine }),
      ...discoverySettings(discovery, served, broadcast),
      ...(router === null ? {} : { router_url: router }),
      ...access(client, env),
      ...(skipModelCheck || model === null ? {} : { served_model: model }),
      ...transfer(broadcast),
      ...timeouts(client, broadcast, { isDynamo, isFound: discovery !== null }),
    },
    discovery,
    inference: {
      transport: isDynamo ? 'dynamo_chat' : 'vllm_generate',
      urls: router === null ? served : [router],
      headersFromState: client.extra_headers_from_state ?? {},
    },
    model,
    skipModelCheck,
    waitForReadyMs: (client.wait_for_ready_timeout ?? 1_800) * 1000,
  };
}

/** What can't work, by name, before anything is asked of an engine. */
function refuse({ elastic, backend, dynamo }: ClientTable, broadcast: BroadcastTable | null): void {
  const because = (key: string, reason: string) => invalid(`weight_broadcast.${key}: ${reason}`);
  if (broadcast?.type === 'nixl') {
    throw because(
      'type',
      'nixl is a pull by RDMA through ModelExpress, which weightcast does not speak; nccl and filesystem work',
    );
  }
  if (broadcast?.quantize_in_weight_transfer === true) {
    throw because(
      'quantize_in_weight_transfer',
      "prime-rl's model code makes the FP8 kernel format as it sends; weightcast sends a checkpoint as it is: set it to false",
    );
  }
  if (broadcast?.save_format === 'torch') {
    throw because('save_format', 'torch files are pickles, which weightcast does not read: save safetensors');
  }
  if (elastic !== undefined && (backend === 'dynamo' || dynamo?.enabled === true)) {
    throw invalid('client.elastic: Dynamo finds its own workers; leave it out, or name admin_base_url');
  }
}

function workersOf(
  urls: readonly string[],
  { inference_world_size: said }: BroadcastTable,
  launched: number | null,
): readonly number[] {
  const worldSize = said ?? launched;
  if (worldSize === null) {
    throw invalid('weight_broadcast.inference_world_size: not given, and no [inference] table says it', {
      remedy: "Add it: the GPU workers of all engines, which prime-rl's launcher counts.",
    });
  }
  return shareWorkers(
    urls.map((id) => ({ id, workers: null })),
    worldSize,
  );
}

/** The key, where the environment has one that is not prime-rl's "EMPTY"; headers whose variable is not set are left out, as prime-rl does. */
function access({ api_key_var, headers, headers_from_env }: ClientTable, env: Environment): Settings {
  const variable = api_key_var ?? DEFAULTS.apiKeyVar;
  const key = env[variable];
  const present = Object.entries(headers_from_env ?? {}).filter(([, name]) => (env[name] ?? '') !== '');
  return {
    ...(key === undefined || key === '' || key === 'EMPTY' ? {} : { api_key_env: variable }),
    ...(headers === undefined ? {} : { headers }),
    ...(present.length === 0 ? {} : { headers_from_env: Object.fromEntries(present) }),
  };
}

function transfer(broadcast: BroadcastTable | null): Settings {
  if (broadcast === null) return {};
  const { type, host, port } = broadcast;
  if (type !== 'nccl') return { transport: 'filesystem' };
  return {
    transport: 'nccl',
    ...(host === undefined || host === '0.0.0.0'
      ? {}
      : { master_address: host === 'localhost' ? '127.0.0.1' : host }),
    master_port: port ?? 29_501,
  };
}

/** Seconds, as prime-rl counts them. */
function timeouts(
  { wait_for_ready_timeout: ready }: ClientTable,
  broadcast: BroadcastTable | null,
  { isDynamo, isFound }: { readonly isDynamo: boolean; readonly isFound: boolean },
): Settings {
  // Dynamo's workers end themselves long before prime-rl's default.
  const rendezvous =
    broadcast?.type === 'nccl' ? (broadcast.timeout ?? (isDynamo ? undefined : 1_200)) : undefined;
  const said = {
    ...(ready === undefined ? {} : isFound ? { discovery: ready } : { ready }),
    ...(rendezvous === undefined ? {} : { rendezvous }),
  };
  return Object.keys(said).length === 0 ? {} : { timeouts: said };
}
