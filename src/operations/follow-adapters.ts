/** The adapters of a trainer that is followed: what each engine serves a version as. */
import { resolve } from 'node:path';
import { onAll } from '../fleet/engine.js';
import type { Announcement } from '../transports/filesystem/prime-rl/index.js';
import { adapterName } from '../update/adapters.js';
import {
  type ConnectedEngine,
  type EngineName,
  type OperationOptions,
  onEvery,
  withEngines,
} from './engines.js';

/** By engine, the name of its adapter; empty where the engines serve a model. */
export type AdapterNames = ReadonlyMap<string, string>;

/**
 * Loads one version on all engines, while they serve. prime-rl's servers take it in place, under the same name each time. For any other backend a name that
 * is loaded already is an error or, on Dynamo, a success without effect (contracts/dynamo.md 1.6): there it is 'policy-v17-1790000000000', by version and
 * time of the announcement, since a trainer that went back announces the same version again.
 */
export function loadVersion(
  engines: readonly EngineName[],
  { path, version, announcedMs }: Announcement,
  name: string,
  options: OperationOptions,
): Promise<AdapterNames> {
  const servedBy = ({ admin }: ConnectedEngine): string =>
    admin.backend === 'prime-rl' ? name : adapterName(name, `${version}-${Math.trunc(announcedMs)}`);
  return withEngines(engines, options, (connected) =>
    onEvery(connected, async (engine) => {
      const servedAs = servedBy(engine);
      await engine.call(engine.admin.loadLoraAdapter({ name: servedAs, path: resolve(path) }));
      return servedAs;
    }),
  );
}

/** Unloads what each engine served before, where that has another name; one that can't leaves it loaded, with a word to `onLog`. */
export async function unloadReplaced(
  engines: readonly EngineName[],
  before: AdapterNames,
  now: AdapterNames,
  options: OperationOptions,
): Promise<void> {
  const replaced = new Map([...before].filter(([id, name]) => now.has(id) && now.get(id) !== name));
  if (replaced.size === 0) return;
  await withEngines(engines, options, async (connected) => {
    const { failed } = await onAll(
      connected.filter(({ id }) => replaced.has(id)),
      (engine) => engine.call(engine.admin.unloadLoraAdapter({ name: replaced.get(engine.id) as string })),
    );
    for (const [id, error] of failed)
      options.onLog?.(`${id}: ${replaced.get(id)} could not be unloaded: ${String(error)}`);
  }).catch((error: unknown) => options.onLog?.(`adapters could not be unloaded: ${String(error)}`));
}
