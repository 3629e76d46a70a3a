/** What prime-rl's servers of each generation have, as their routes tell it (contracts/prime-rl.md 1.1, 1.2 and 4). */

/** The routes that tell generations apart, and what else stands before them. */
export const TELLING_ROUTES = [
  '/update_weights',
  '/init_broadcaster',
  '/load_lora_adapter',
  '/pause',
  '/liveness',
  '/is_paused',
  '/collective_rpc',
] as const;

export interface Generation {
  /** prime-rl's releases, for people. */
  readonly version: string;
  /** How a worker finds its rank: from the server's number, from the number of GPUs that every server has, or from its own offset. */
  readonly seatedBy: 'server_rank' | 'gpus_per_server' | 'rank_offset';
  /** Has /pause and /resume. */
  readonly pauses: boolean;
  /** Forgets its prefix cache with every update. */
  readonly resetsPrefixCache: boolean;
  readonly loraPath: '/load_lora_adapter' | '/v1/load_lora_adapter';
  /** Has /init_broadcaster. */
  readonly joins: boolean;
}

/** The generation with these routes; later ones than the newest known count as that. */
export function generationOf(routes: ReadonlySet<string>): Generation {
  const pauses = routes.has('/pause');
  const isRecent = pauses && routes.has('/liveness');
  const wrapsLora = routes.has('/load_lora_adapter');
  const version = isRecent ? '0.6 or later' : pauses ? '0.5' : wrapsLora ? '0.4' : '0.2 or 0.3';
  return {
    version,
    seatedBy: isRecent ? 'rank_offset' : pauses ? 'gpus_per_server' : 'server_rank',
    pauses,
    // The wrapper came with the reset; the reset left before /liveness came.
    resetsPrefixCache: wrapsLora && !isRecent,
    loraPath: wrapsLora ? '/load_lora_adapter' : '/v1/load_lora_adapter',
    joins: routes.has('/init_broadcaster'),
  };
}

/** A server of prime-rl's: vLLM's own has /update_weights only beside /collective_rpc. */
export function isPrimeRl(routes: ReadonlySet<string>): boolean {
  return routes.has('/update_weights');
}

/** vLLM's development routes stand before prime-rl's of the same path, and mean something else. */
export function isShadowed(routes: ReadonlySet<string>): boolean {
  return routes.has('/is_paused') || routes.has('/collective_rpc');
}
