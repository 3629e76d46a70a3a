/** Engines that a prime-rl file does not list: behind a name (its elastic pool), or found by the frontends of Dynamo. */
import { rlPortOf } from '../rl-port.js';
import type { Settings } from '../schema.js';
import { addressOf, listOf } from './address.js';
import type { BroadcastTable, ClientTable } from './schema.js';

export type PrimeRlDiscovery =
  | { readonly kind: 'dynamo'; readonly listeners: readonly string[] }
  | {
      readonly kind: 'dns';
      readonly hostname: string;
      readonly port: number;
      readonly syncIntervalMs: number;
    };

type Environment = Readonly<Record<string, string | undefined>>;

/** prime-rl's DYN_RL_PORT, where nothing is said. */
const DEFAULT_RL_PORT = 8001;

/** null for a client whose engines are listed. @param served base URLs of the client @throws WeightcastError WC_CONFIG_INVALID */
export function discoveryOf(
  client: ClientTable,
  served: readonly string[],
  env: Environment,
): PrimeRlDiscovery | null {
  const { elastic, admin_base_url: named, rl_base_url: listeners, dynamo, backend } = client;
  if (elastic !== undefined) {
    const { hostname, port = 8000, sync_interval: syncSeconds = 5 } = elastic;
    return { kind: 'dns', hostname, port, syncIntervalMs: syncSeconds * 1000 };
  }
  const isManaged = dynamo?.enabled === true;
  if ((backend !== 'dynamo' && !isManaged) || named !== undefined) return null;
  const said = dynamo?.discovery_url ?? listeners;
  if (said !== undefined) return { kind: 'dynamo', listeners: listOf(said).map(addressOf) };
  const rlPort = isManaged ? null : (rlPortOf(env) ?? DEFAULT_RL_PORT);
  return { kind: 'dynamo', listeners: served.map((url) => listenerOf(url, rlPort)) };
}

/** Beside the frontend: at DYN_RL_PORT, or (null) where a managed Dynamo has it, on the next port (contracts/dynamo.md §2.3 #3491). */
function listenerOf(frontend: string, rlPort: number | null): string {
  const url = new URL(frontend);
  const own = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port);
  url.port = String(rlPort ?? own + 1);
  return url.origin;
}

/** The same as weightcast's own options say it. */
export function discoverySettings(
  discovery: PrimeRlDiscovery | null,
  served: readonly string[],
  broadcast: BroadcastTable | null,
): Settings {
  if (discovery === null) return {};
  if (discovery.kind === 'dns') {
    const { hostname, port, syncIntervalMs } = discovery;
    const host = hostname.includes(':') ? `[${hostname}]` : hostname;
    return { elastic: [`${host}:${port},backend=prime-rl`], sync_interval: syncIntervalMs / 1000 };
  }
  const isNccl = broadcast?.type === 'nccl';
  const size = isNccl ? broadcast.inference_world_size : undefined;
  const words = [
    ...(size === undefined ? [] : [`world_size=${size}`]),
    // Its workers are prime-rl's worker extension then, whose methods join and receive.
    ...(isNccl ? ['rpc=prime-rl'] : []),
  ];
  return {
    discover: discovery.listeners.map((listener, index) =>
      [`dynamo=${served[index] ?? served[0] ?? listener}`, `rl=${listener}`, ...words].join(','),
    ),
  };
}
