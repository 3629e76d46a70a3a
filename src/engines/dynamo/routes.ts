/** Which dialect a worker speaks, by the routes that it has: names are never derived, only looked up (contracts/dynamo.md 0.1). */
import type { DynamoDialect } from './parameters.js';

/** Routes under /engine/ that each dialect is known by; SGLang's bare ones (since 1.6) look like the Python worker's otherwise. */
const KNOWN_BY: readonly (readonly [DynamoDialect, readonly string[]])[] = [
  [
    'sglang',
    ['continue_generation', 'control/update_weights_from_disk', 'control/release_memory_occupation'],
  ],
  ['sidecar', ['control/pause_generation', 'update/start_weight_update', 'update/update_weight_version']],
  ['python', ['pause_generation', 'update_weights_from_disk', 'update_weights_from_distributed']],
];

/** null when the routes are nobody's. */
export function dialectOf(routes: ReadonlySet<string>): DynamoDialect | null {
  return KNOWN_BY.find(([, known]) => known.some((route) => routes.has(route)))?.[0] ?? null;
}

/** What a worker has: what is listed, or all but `absent` where nobody lists it. */
export interface Routes {
  has(route: string): boolean;
  /** Those of `needed` that a list lacks. */
  missing(needed: readonly string[]): readonly string[];
}

export function routesOf(listed: ReadonlySet<string> | null, absent: readonly string[] = []): Routes {
  const has = (route: string) => (listed === null ? !absent.includes(route) : listed.has(route));
  return { has, missing: (needed) => needed.filter((route) => !has(route)) };
}
