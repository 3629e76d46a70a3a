/** Brings one engine to what the fleet is on: weights by an update of its own from disk, then the adapters that it lacks. */
import type { EngineTarget } from '../engines/http.js';
import { hasCode, WeightcastError } from '../errors.js';
import type { PoolOptions } from '../fleet/elastic/pool.js';
import { type Adapter, type DesiredWeights, isSame } from '../fleet/elastic/state.js';
import { type EngineLink, probeEngine } from '../fleet/engine.js';
import { checkpointIdentity } from '../weights/identity.js';
import type { FleetSession } from './session.js';
import { specOf } from './targets.js';
import type { EngineSpec, FleetOptions } from './types.js';

/** It can't be brought anywhere alone, and is well. */
class JoinsLater extends Error {
  constructor() {
    super('it loads nothing from disk, and joins at the next update');
  }
}

/** Pauses, loads, verifies and resumes under a claim of its own, as every update does; rejects unless the engine serves the fleet's version. */
export function newcomerSync(
  options: FleetOptions,
  connect: (options: FleetOptions) => Promise<FleetSession>,
): NonNullable<PoolOptions['sync']> {
  const { onEvent: _, recover: __, ...rest } = options;
  return async (target, { weights, adapters }, signal) => {
    const session = await connect({
      ...rest,
      ...{ engines: [receivingAs(target, options)], discover: [], elastic: [] },
      ...{ transport: 'filesystem', fallback: 'none' },
    });
    try {
      const [engine] = session.engines;
      if (engine === undefined) return;
      const facts = await probeEngine(engine, { signal, timeoutMs: options.timeouts?.probe });
      const has = weights === null || (weights.version !== null && weights.version === facts.weightVersion);
      if (!has) await load(session, { engine, weights, signal });
      await addAdapters(engine, adapters, { target, signal });
    } finally {
      await session.close();
    }
  };
}

/** A prime-rl server receives for life as the session's fleet does, and not as it is spoken to here: taken for one that loads files, it waits for a broadcast. */
function receivingAs(target: EngineTarget, { transport = 'nccl' }: FleetOptions): EngineSpec {
  const spec = specOf(target);
  if (target.backend !== 'prime-rl' && target.backend !== 'auto') return spec;
  return { ...spec, parameters: { broadcast: transport, ...target.parameters } };
}

interface Load {
  readonly engine: EngineLink;
  readonly weights: DesiredWeights;
  readonly signal: AbortSignal;
}

async function load(session: FleetSession, { engine, weights, signal }: Load): Promise<void> {
  if (!engine.admin.capabilities.diskLoad) throw new JoinsLater();
  const { directory, version, identity } = weights;
  const now = await checkpointIdentity(directory);
  // Files that are gone are told by the update itself.
  if (identity !== null && now !== null && now !== identity) {
    throw new WeightcastError(
      'WC_CHECKPOINT_CHANGED',
      `${directory} is not what the fleet was updated with any more`,
      { engine: engine.id, remedy: 'Keep the files of a version until the fleet is on the next one.' },
    );
  }
  await session.update(directory, { signal, ...(version === null ? {} : { version }) });
}

async function addAdapters(
  engine: EngineLink,
  adapters: readonly Adapter[],
  { target, signal }: { readonly target: EngineTarget; readonly signal: AbortSignal },
): Promise<void> {
  if (adapters.length === 0) return;
  const listsOwn = listsItsOwn(engine, target);
  const cards = listsOwn ? await engine.call(engine.admin.listModels(), { signal }) : [];
  const served = cards.map(({ id, root }): Adapter => ({ name: id, path: root }));
  for (const { name, path } of adapters) {
    if (path === null || served.some((has) => isSame(has, { name, path }))) continue;
    // Under another path it is another adapter, and a server keeps the first of a name.
    if (served.some((has) => has.name === name))
      await engine.call(engine.admin.unloadLoraAdapter({ name }), { signal });
    await engine.call(engine.admin.loadLoraAdapter({ name, path }), { signal });
  }
}

/** Whether the models that are listed are this engine's: a frontend lists the adapters of all its workers. */
export function listsItsOwn({ backend }: EngineLink, { inferenceUrl }: EngineTarget): boolean {
  return backend !== 'dynamo' && inferenceUrl === null;
}

/** Somebody else updates it now, or it has to wait for the next update: that says nothing about the engine. */
export function isPassing(error: unknown): boolean {
  return error instanceof JoinsLater || hasCode(error, 'WC_UPDATE_BUSY');
}
