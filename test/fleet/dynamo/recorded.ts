/** What the real Dynamo 1.6.1 answered to GET /v1/rl/workers: test/vectors/dynamo. */
import { readFileSync } from 'node:fs';

export interface Recorded {
  readonly status: number;
  readonly url: string;
  readonly text: string;
}

const file = new URL('../../vectors/dynamo/discovery-1.6.1.json', import.meta.url);

const { exchanges } = JSON.parse(readFileSync(file, 'utf8')) as {
  readonly exchanges: Readonly<Record<string, Recorded>>;
};

/** The recording whose note contains `words`. */
export function recorded(words: string): Recorded {
  const [found] = Object.entries(exchanges).filter(([note]) => note.includes(words));
  if (found === undefined) throw new Error(`nothing recorded for '${words}'`);
  return found[1];
}

/** A worker as a listener lists it; ids as text, for JSON of any size. */
export function workerJson(id: string, fields: Readonly<Record<string, unknown>> = {}): string {
  const rest = JSON.stringify({
    namespace: 'curator',
    component: 'backend',
    endpoint: 'rl',
    system_url: `http://10.0.0.${Number(BigInt(id) % 200n)}:9090`,
    model: 'tiny',
    routes: ['pause_generation', 'resume_generation'],
    world_size: 1,
    ...fields,
  });
  return `{"instance_id":${id},${rest.slice(1)}`;
}

export function listJson(...workers: readonly string[]): string {
  return `{"protocol_version":1,"namespace":"curator","workers":[${workers.join(',')}]}`;
}
