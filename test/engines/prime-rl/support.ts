/** Servers of each generation, by the routes that they list (contracts/prime-rl.md 1.1 and 4). */
import type { EngineAdmin, GroupSeat } from '../../../src/engines/admin.js';
import { primeRlAdmin } from '../../../src/engines/prime-rl/admin.js';
import { generationOf } from '../../../src/engines/prime-rl/generation.js';

const ALWAYS = [
  '/health',
  '/v1/models',
  '/v1/completions',
  '/metrics',
  '/update_weights',
  '/init_broadcaster',
];

export const ROUTES = {
  '0.3': [...ALWAYS, '/reload_weights'],
  '0.4': [...ALWAYS, '/reload_weights', '/load_lora_adapter'],
  '0.5': [...ALWAYS, '/load_lora_adapter', '/pause', '/resume'],
  '0.8': [...ALWAYS, '/load_lora_adapter', '/pause', '/resume', '/liveness'],
} as const;

export type Release = keyof typeof ROUTES;

export const openApi = (routes: readonly string[]) => ({
  openapi: '3.1.0',
  paths: Object.fromEntries(routes.map((route) => [route, {}])),
});

export function adminOf(release: Release = '0.8', broadcast: 'nccl' | 'filesystem' = 'nccl'): EngineAdmin {
  return primeRlAdmin({
    engine: 'http://e',
    generation: generationOf(new Set(ROUTES[release])),
    broadcast,
    notes: [],
  });
}

/** The seat of one engine of a fleet with so many workers each. */
export function seatOf(index: number, fleet: readonly number[]): GroupSeat {
  const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);
  return {
    rankOffset: 1 + sum(fleet.slice(0, index)),
    worldSize: 1 + sum(fleet),
    fleet,
    masterAddress: '10.0.0.9',
    masterPort: 29_501,
    uniqueId: null,
    packing: { bufferBytes: 1024, numBuffers: 2 },
    timeoutMs: 1_199_500,
  };
}
