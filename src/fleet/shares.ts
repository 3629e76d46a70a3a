/** How many workers each engine has, where only their sum is known. */
import { WeightcastError } from '../errors.js';

export interface Shareholder {
  readonly id: string;
  /** As it was said; null: a share of what the others leave. */
  readonly workers: number | null;
}

/**
 * Workers of each engine, in their order: what was said, and for the others equal shares of the rest. prime-rl divides without asking whether it comes out
 * even, and ranks that nobody has hang the rendezvous: here it must.
 *
 * @param worldSize all workers of all engines; null where each engine's number was said (one worker where not)
 * @throws WeightcastError WC_CONFIG_INVALID
 */
export function shareWorkers(engines: readonly Shareholder[], worldSize: number | null): readonly number[] {
  const said = engines.reduce((sum, { workers }) => sum + (workers ?? 0), 0);
  const silent = engines.filter(({ workers }) => workers === null);
  if (worldSize === null) return engines.map(({ workers }) => workers ?? 1);
  const rest = worldSize - said;
  if (silent.length === 0) {
    if (rest === 0) return engines.map(({ workers }) => workers ?? 0);
    throw uneven(`the engines have ${said} workers, and inference_world_size is ${worldSize}`);
  }
  const share = rest / silent.length;
  if (Number.isInteger(share) && share > 0) return engines.map(({ workers }) => workers ?? share);
  const left = said === 0 ? `${worldSize}` : `${rest} of ${worldSize}`;
  throw uneven(`${left} workers can't be shared evenly by ${silent.map(({ id }) => id).join(', ')}`);
}

function uneven(message: string): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', message, {
    remedy: "Say each engine's number of GPU workers: prime-rl=http://host:8000,workers=4.",
  });
}
