/** How a fleet ended, as its users meet it: pure, over what the simulator found behind the proxies. */
import type { FaultKind } from '../../../test/faults/catalogue.js';
import { claimOf, type EngineFacts, type Held, type StepFacts } from '../../../test/faults/facts.js';

/**
 * The worst first.
 * mixed: engines serve different versions, or bytes that are no whole version · dead: an engine is dead, or dies of its next request ·
 * stuck: an engine is paused or hangs, and nobody said so · held: the same, and its user was told which · old, new: every engine serves it
 */
export const VERDICTS = ['mixed', 'dead', 'stuck', 'held', 'old', 'new'] as const;
export type Verdict = (typeof VERDICTS)[number];

/** One engine, and what its user was told of it. */
export interface Ended {
  readonly engine: EngineFacts;
  readonly named: boolean;
  /** The fault itself ended its process, or hangs in it: that is nobody's doing. */
  readonly lostToFault: boolean;
}

/** What became of the fleet that was brought to `version`. */
export function verdictOf(fleet: readonly Ended[], version: Held): Verdict {
  const judged = fleet.filter(
    ({ engine, lostToFault }) => !hangsInJoin(engine) && (!lostToFault || (engine.alive && !engine.stuck)),
  );
  const serving = judged.map(({ engine }) => engine).filter((engine) => runs(engine) && !broken(engine));
  // One that the fault put into another's place has not been pushed to.
  const versions = new Set(serving.filter(({ replaced }) => replaced === null).map(({ holds }) => holds));
  if (versions.size > 1 || serving.some(({ holds }) => holds === 'mixed')) return 'mixed';
  if (judged.some(({ engine }) => !engine.alive || (runs(engine) && broken(engine)))) return 'dead';
  const silent = judged.filter(({ engine }) => !runs(engine));
  if (silent.some(({ named }) => !named)) return 'stuck';
  if (silent.length > 0) return 'held';
  return [...versions].every((held) => held === version) ? 'new' : 'old';
}

/** It takes requests. */
const runs = ({ alive, stuck, state }: EngineFacts): boolean => alive && !stuck && state?.paused === null;
/** A worker that finds no store looks for it for 300 s, and then its engine serves on: in doubt for everybody. */
const hangsInJoin = ({ alive, stuck, state }: EngineFacts): boolean =>
  alive && stuck && state?.paused === null && !state.updating && !state.broken;
const broken = ({ state }: EngineFacts): boolean => state?.broken === true;

/** The fleet after the push that was disturbed. */
export function afterFault(facts: StepFacts): Ended[] {
  return facts.engines.map((engine, index) => ({
    engine,
    named: isNamed(facts, engine.url),
    lostToFault: facts.step.faults.some((fault) => fault.engine === index && isFinal(fault.kind)),
  }));
}

/** Its user was told which engine gets no requests, or that nobody knows what it does. */
const isNamed = (facts: StepFacts, url: string): boolean =>
  claimOf(facts, url) === 'excluded' ||
  facts.outcome?.report?.engines.some((engine) => engine.url === url && engine.state === 'unknown') === true;

const isFinal = (kind: FaultKind): boolean =>
  kind === 'engine-killed' || kind === 'missing-peer' || kind.startsWith('peer-dies');

/** The same fleet after one more push to those that lived. */
export function afterRecovery(before: readonly Ended[], facts: StepFacts | undefined): Ended[] {
  return before.map((ended) => {
    const engine = facts?.engines.find(({ url }) => url === ended.engine.url);
    if (engine === undefined || facts === undefined) return ended;
    const claim = claimOf(facts, engine.url);
    // What was said of it before holds until something else is said.
    const named = isNamed(facts, engine.url) || (ended.named && claim !== 'new' && claim !== 'old');
    return { ...ended, engine: { ...engine, replaced: null }, named };
  });
}
