/** Engines behind proxies that answer in their place. */
import type { SimulateOptions } from '../../../src/testing/index.js';
import type { FleetSession } from '../../../src/update/index.js';
import type { FleetOptions } from '../../../src/update/types.js';
import { type ScriptedProxy, scriptedProxy } from '../proxy.js';
import { type Bench, withBench } from '../support.js';

export interface ProxiedBench extends Bench {
  readonly proxies: readonly ScriptedProxy[];
}

/** A bench whose sessions reach every engine through a proxy. */
export function withProxies(
  options: SimulateOptions,
  body: (bench: ProxiedBench) => Promise<void>,
): Promise<void> {
  return withBench({ engines: 1, workers: 1, ...options }, async (bench) => {
    const proxies = await Promise.all(bench.urls.map(scriptedProxy));
    const sessions: FleetSession[] = [];
    try {
      const connect = async (more: Partial<FleetOptions> = {}) => {
        const session = await bench.connect({ engines: proxies.map(({ url }) => url), ...more });
        sessions.push(session);
        return session;
      };
      await body({ ...bench, proxies, connect });
    } finally {
      await Promise.all(sessions.map((session) => session.close()));
      await Promise.all(proxies.map((proxy) => proxy[Symbol.asyncDispose]()));
    }
  });
}

/** Item `index` of a list that is long enough. */
export function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no item ${index}`);
  return item;
}
