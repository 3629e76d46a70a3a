/** Brings one engine to what the fleet is on: weights by an update of its own from disk, then the adapters that it lacks. */
import { hasCode } from '../errors.js';
import type { PoolOptions } from '../fleet/elastic/pool.js';
import { probeEngine } from '../fleet/engine.js';
import { specOf } from './membership.js';
import type { FleetSession } from './session.js';
import type { FleetOptions } from './types.js';

/** Pauses, loads, verifies and resumes under a claim of its own, as every update does; rejects unless the engine serves the fleet's version. */
export function newcomerSync(
  options: FleetOptions,
  connect: (options: FleetOptions) => Promise<FleetSession>,
): NonNullable<PoolOptions['sync']> {
  const { onEvent: _, recover: __, ...rest } = options;
  return async (target, { weights, adapters }, signal) => {
    const session = await connect({
      ...rest,
      ...{ engines: [specOf(target)], discover: [], elastic: [] },
      ...{ transport: 'filesystem', fallback: 'none' },
    });
    try {
      const [engine] = session.engines;
      if (engine === undefined) return;
      const facts = await probeEngine(engine, { signal, timeoutMs: options.timeouts?.probe });
      const has = weights === null || (weights.version !== null && weights.version === facts.weightVersion);
      if (!has) {
        const { directory, version } = weights;
        await session.update(directory, { signal, ...(version === null ? {} : { version }) });
      }
      if (adapters.length === 0) return;
      const served = await engine.call(engine.admin.listModels(), { signal });
      for (const { name, path } of adapters) {
        if (path === null || served.some(({ id }) => id === name)) continue;
        await engine.call(engine.admin.loadLoraAdapter({ name, path }), { signal });
      }
    } finally {
      await session.close();
    }
  };
}

/** Somebody else updates it now: that says nothing about the engine. */
export function isPassing(error: unknown): boolean {
  return hasCode(error, 'WC_UPDATE_BUSY');
}
