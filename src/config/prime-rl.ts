/** A prime-rl TOML file, as it is, for configuration. */
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type PrimeRlConfig, translate } from './prime-rl/translate.js';
import { parseToml, readBounded } from './toml.js';

export type { PrimeRlDiscovery } from './prime-rl/discovery.js';
export type { PrimeRlConfig } from './prime-rl/translate.js';

/**
 * Reads the client and weight_broadcast tables of a prime-rl file (`rl.toml`, `orchestrator.toml`, or the resolved `configs/orchestrator.json` of a run). Its other
 * tables are prime-rl's own business; an unknown key in these two is named.
 *
 * @throws WeightcastError WC_CONFIG_INVALID, which names the file and the key
 */
export async function readPrimeRlFile(
  path: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<PrimeRlConfig> {
  const text = await readBounded(path);
  const file = path.endsWith('.json') ? parseJson(text, path) : parseToml(text, path);
  try {
    return translate(file, env);
  } catch (error) {
    const cause = asWeightcastError(error, 'WC_CONFIG_INVALID');
    throw new WeightcastError(cause.code, `${path}: ${cause.message}`, { remedy: cause.remedy, cause });
  }
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new WeightcastError('WC_CONFIG_INVALID', `${path}: ${String(cause)}`, { cause });
  }
}
