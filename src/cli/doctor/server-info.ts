import type { Exchange } from '../../engines/admin.js';

/** What vLLM's /server_info adds; null where it does not say. */
export interface ServerInfo {
  readonly weightTransfer: boolean | null;
  readonly torchVersion: string | null;
}

/** Only a hint: the route fails where neither pip nor uv is in the server's environment (contracts/vllm.md, error bodies). */
export function serverInfo(): Exchange<ServerInfo | null> {
  return {
    operation: 'server_info',
    method: 'GET',
    path: '/server_info',
    query: { config_format: 'json' },
    body: null,
    // A second try would only repeat that failure.
    retryable: false,
    budget: 'probe',
    read: ({ status, json }) => (status === 200 ? readServerInfo(json) : null),
  };
}

function readServerInfo(json: unknown): ServerInfo {
  const config = member(json, 'vllm_config');
  const transfer = member(config, 'weight_transfer_config');
  const torch = member(member(json, 'system_env'), 'torch_version');
  return {
    weightTransfer: transfer === undefined ? null : transfer !== null,
    torchVersion: typeof torch === 'string' ? torch.slice(0, 80) : null,
  };
}

function member(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
}
