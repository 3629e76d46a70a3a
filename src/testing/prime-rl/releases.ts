/** What differs between prime-rl's servers, as data (contracts/prime-rl.md 1.1, 1.2 and 4). */
import type { VllmVersion } from '../server/profile.js';

/** Releases that a reference prime-rl server can be told to be; each stands for those that speak alike. */
export const PRIME_RL_RELEASES = ['0.3.0', '0.4.0', '0.5.0', '0.8.0'] as const;

export type PrimeRlRelease = (typeof PRIME_RL_RELEASES)[number];

export interface Release {
  /** Whose error bodies it has: the recorded version that is nearest to the one that it is pinned to. */
  readonly vllm: VllmVersion;
  readonly seatedBy: 'server_rank' | 'gpus_per_server' | 'rank_offset';
  readonly pauses: boolean;
  readonly liveness: boolean;
  /** Has /load_lora_adapter, which loads in place. */
  readonly wrapsLora: boolean;
  /** Resets the prefix cache with every update. */
  readonly resetsPrefixCache: boolean;
  /** --api-key guards every route, not only /v1. */
  readonly guardsAll: boolean;
}

export const RELEASES: Readonly<Record<PrimeRlRelease, Release>> = {
  '0.3.0': {
    vllm: '0.16.0',
    seatedBy: 'server_rank',
    pauses: false,
    liveness: false,
    wrapsLora: false,
    resetsPrefixCache: false,
    guardsAll: false,
  },
  '0.4.0': {
    vllm: '0.16.0',
    seatedBy: 'server_rank',
    pauses: false,
    liveness: false,
    wrapsLora: true,
    resetsPrefixCache: true,
    guardsAll: false,
  },
  '0.5.0': {
    vllm: '0.18.1',
    seatedBy: 'gpus_per_server',
    pauses: true,
    liveness: false,
    wrapsLora: true,
    resetsPrefixCache: true,
    guardsAll: false,
  },
  '0.8.0': {
    vllm: '0.27.1',
    seatedBy: 'rank_offset',
    pauses: true,
    liveness: true,
    wrapsLora: true,
    resetsPrefixCache: false,
    guardsAll: true,
  },
};

/** Paths that /openapi.json lists. */
export function routesOf(release: Release): readonly string[] {
  return [
    '/health',
    '/version',
    '/metrics',
    '/v1/models',
    '/v1/completions',
    // Open in each of these vLLMs; 0.30 closed it.
    '/inference/v1/generate',
    '/v1/load_lora_adapter',
    '/v1/unload_lora_adapter',
    '/update_weights',
    '/init_broadcaster',
    ...(release.wrapsLora ? ['/load_lora_adapter'] : []),
    ...(release.pauses ? ['/pause', '/resume'] : ['/reload_weights']),
    ...(release.liveness ? ['/liveness'] : []),
  ];
}
