/** Medians and spreads of interleaved repeats. */

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Linear interpolation between the closest ranks. @throws RangeError without values */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)];
  const high = sorted[Math.ceil(at)];
  if (low === undefined || high === undefined) throw new RangeError('no values');
  return low + (high - low) * (at - Math.floor(at));
}

/** (largest - smallest) / median. */
export function spread(values: readonly number[]): number {
  return (Math.max(...values) - Math.min(...values)) / median(values);
}

/**
 * Runs the contestants one after the other, `repeats` times, so that a machine that gets slower or busier hits all of them. Every second round
 * runs in the opposite order: whoever comes second finds warmer caches. After `budgetMs` no further round begins, so that a busy machine gets
 * fewer repeats instead of none.
 */
export async function interleave<Contestants extends Readonly<Record<string, () => Promise<unknown>>>>(
  contestants: Contestants,
  repeats: number,
  budgetMs = Number.POSITIVE_INFINITY,
): Promise<{ [Name in keyof Contestants]: Awaited<ReturnType<Contestants[Name]>>[] }> {
  const names = Object.keys(contestants);
  const results = Object.fromEntries(names.map((name) => [name, [] as unknown[]]));
  const began = performance.now();
  for (let round = 0; round < repeats && performance.now() - began < budgetMs; round += 1) {
    for (const name of round % 2 === 0 ? names : [...names].reverse()) {
      results[name]?.push(await contestants[name]?.());
    }
  }
  return results as Awaited<ReturnType<typeof interleave<Contestants>>>;
}
