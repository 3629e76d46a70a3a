import { WeightcastError } from '../errors.js';

/**
 * The port of Dynamo's RL listener by DYN_RL_PORT, as the frontend itself and prime-rl read it; null where it is not set.
 * @throws WeightcastError WC_CONFIG_INVALID
 */
export function rlPortOf(env: Readonly<Record<string, string | undefined>>): number | null {
  const { DYN_RL_PORT: text } = env;
  if (text === undefined || text === '') return null;
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port >= 1 && port <= 65_535) return port;
  const shown = JSON.stringify(text.slice(0, 20));
  throw new WeightcastError(
    'WC_CONFIG_INVALID',
    `the environment variable DYN_RL_PORT is ${shown}, which is no port number`,
  );
}
