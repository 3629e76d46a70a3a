/** Which backend a server is, by what it says to questions without effects: its routes, and how it says that it is well. */
import { WeightcastError } from '../errors.js';
import type { Reply } from './admin.js';
import type { EngineTarget, ExchangeOptions, HttpClient } from './http.js';
import { isRecord } from './is-record.js';
import { isPrimeRl, isShadowed } from './prime-rl/generation.js';
import { listedRoutes, question } from './question.js';

/** @throws WeightcastError WC_ENGINE_PROTOCOL when it is none that is known, and what the HTTP client throws */
export async function detectBackend(
  http: HttpClient,
  target: EngineTarget,
  options: ExchangeOptions,
): Promise<'vllm' | 'prime-rl' | 'dynamo'> {
  const ask = <T>(path: string, read: (reply: Reply) => T) =>
    http.exchange(target, question(`what it is (${path})`, path, read), options);
  const [routes, isVllm, isWorker] = await Promise.all([
    ask('/openapi.json', listedRoutes),
    ask(
      '/version',
      ({ status, json }) => status === 200 && isRecord(json) && typeof json.version === 'string',
    ),
    ask('/health', isDynamoHealth),
  ]);
  if (routes !== null && isPrimeRl(routes) && !isShadowed(routes)) return 'prime-rl';
  if (routes !== null && routes.size > 0) return 'vllm';
  if (isWorker) return 'dynamo';
  // Its routes are hidden. A route that takes only POST answers 405, one that is not there 404.
  const has = (path: string) => ask(path, ({ status }) => status === 405);
  if (isVllm) return (await has('/update_weights')) && !(await has('/collective_rpc')) ? 'prime-rl' : 'vllm';
  throw new WeightcastError('WC_ENGINE_PROTOCOL', `${target.url} does not say what it is`, {
    engine: target.id,
    remedy: 'Name its backend: vllm=URL, prime-rl=URL, or dynamo=URL with the system port of a worker.',
  });
}

/** A worker's system port: {"status":"ready","uptime":{…},"endpoints":{…}}, also with 503 (contracts/dynamo.md 1.2). */
function isDynamoHealth({ json }: Reply): boolean {
  return (
    isRecord(json) && typeof json.status === 'string' && isRecord(json.endpoints) && isRecord(json.uptime)
  );
}
