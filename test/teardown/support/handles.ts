import { it } from 'vitest';
import { expectEnding, runScenario, type ScenarioOptions } from './ending.js';

/** What a scenario that ends by itself and found nothing wrong ends with. */
const WELL = { code: 6, signal: null };
/** Calls of scenario/stuck.mjs. */
const NEVER_RETURN = ['ncclGetUniqueId', 'cuMemAlloc', 'ncclCommInitRankConfig', 'ncclCommAbort'] as const;
const WORKER_SEEDS = ['1', '2'] as const;

/** Runs a scenario that checks by itself, to its end. */
export async function expectWell(
  script: string,
  args: readonly string[],
  options: ScenarioOptions,
): Promise<void> {
  expectEnding(await runScenario(script, args, options), WELL);
}

export const collectedIdle = ['runtime', 'communicator', 'buffer', 'transfer', 'hash', 'write'];
export const collectedBusy = [...collectedIdle, 'broadcast'];
/** Room for one buffer or one staging at a time: a second one shows that the first was freed. */
export const ROOM = { WEIGHTCAST_EMULATOR_FAULTS: `out-of-memory=${12 << 20}` };

/** Handles that are collected, closed twice, refused a thread, inside a call that hangs, or many; on one Node. */
export function describeHandles(node: () => string): void {
  it.each(collectedIdle)('collects an idle %s and frees what it owned', (kind) =>
    expectWell('collect.mjs', ['idle', kind], { node: node(), env: ROOM }),
  );
  it.each(collectedBusy)('ends the work of a %s that is collected meanwhile', (kind) =>
    expectWell('collect.mjs', ['busy', kind], { node: node() }),
  );
  it('closes every handle twice', () => expectWell('close-twice.mjs', [], { node: node() }));
  it('rejects, and holds nothing, when the system refuses a thread', () =>
    expectWell('no-thread.mjs', [], { node: node() }));
  it.each(NEVER_RETURN)('lets a Worker and its process end inside %s, which never returns', (call) =>
    expectWell('stuck.mjs', [call], { node: node(), env: { WEIGHTCAST_EMULATOR_FAULTS: `hang=${call}` } }),
  );
  it.each(WORKER_SEEDS)('survives 20 Workers that end at random instants (seed %s)', (seed) =>
    expectWell('many-workers.mjs', [seed], { node: node() }),
  );
}
