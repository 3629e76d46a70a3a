/** Proof by fingerprint, right after the resume: all engines must score a fixed prompt alike. */
import type { PromptScore } from '../engines/admin.js';
import { asWeightcastError, hasCode, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import { type Attempt, enginesIn } from './attempt.js';
import { unproved } from './verify.js';

/**
 * Token ids that every vocabulary has. Noise between equal engines was measured up to 0.15 (bf16, another batch); another model differs by more than 2.
 * Two neighbouring versions of one run may differ by less than this: a fingerprint finds engines that are wrong, a digest proves that they are right.
 */
const PROMPT = [11, 7, 42, 3, 29, 17, 5, 53, 23, 37, 2, 61, 13, 47, 19, 31];
const TOLERANCE = 0.2;

/**
 * Scores on every engine that serves the new version; those that disagree are paused and quarantined. Engines that were proved by digest are right
 * by definition; without any, the majority is. A prompt that can't be scored proves nothing, but harms nobody.
 */
export async function verifyByFingerprint(attempt: Attempt): Promise<void> {
  const { ledger, settings, facts } = attempt;
  const engines = enginesIn(attempt, 'serving-new');
  if (engines.length === 0) return;
  if (engines.length === 1) {
    const [only] = engines as [EngineLink];
    const hint = only.admin.capabilities.weightChecker
      ? ': use --verify digest'
      : ', and it reports no digests';
    ledger.proofUnlessDigest(only.id, unproved(`one engine alone has nobody to be compared with${hint}`));
    return;
  }
  ledger.enter('fingerprint');
  const { done, failed } = await onAll(engines, (engine) => {
    const model = facts.get(engine.id)?.model;
    if (model === null || model === undefined) {
      throw new WeightcastError('WC_ENGINE_PROTOCOL', 'it lists no model to score with');
    }
    const score = engine.admin.scorePrompt({ model, tokens: PROMPT });
    if (score === null) throw new WeightcastError('WC_ENGINE_PROTOCOL', 'it scores no prompts');
    return engine.call(score, { timeoutMs: settings.timeouts.score });
  });
  const agreement = agreeing(
    done,
    new Set(engines.filter(({ id }) => ledger.provedByDigest(id)).map(({ id }) => id)),
  );
  const excluded = new Map<string, unknown>();
  for (const [id, error] of failed) {
    const text = error instanceof Error ? error.message : String(error);
    ledger.proofUnlessDigest(id, unproved(`the prompt could not be scored: ${text}`));
    ledger.note(`${id}: no fingerprint, the prompt could not be scored: ${text}`);
    if (hasCode(error, 'WC_ENGINE_DEAD') || hasCode(error, 'WC_ENGINE_UNREACHABLE')) excluded.set(id, error);
  }
  for (const id of done.keys()) {
    const agrees = agreement.has(id);
    ledger.proofUnlessDigest(id, {
      method: 'fingerprint',
      proved: agrees ? 1 : 0,
      total: 1,
      mismatched: agrees ? [] : ['the fixed prompt'],
      unprovable: [],
      engineMs: 0,
      note: `${agreement.size} of ${engines.length} engines score the prompt alike (±${TOLERANCE})`,
    });
    if (!agrees) excluded.set(id, disagreement(agreement.size));
  }
  const outcasts = engines.filter((engine) => excluded.has(engine.id));
  await onAll(outcasts, (engine) => exclude(attempt, engine, excluded.get(engine.id)));
}

/** Engines that score like a trusted one; without a trusted one those of the majority. */
export function agreeing(
  scores: ReadonlyMap<string, PromptScore>,
  trusted: ReadonlySet<string>,
): ReadonlySet<string> {
  const references = [...scores].filter(([id]) => trusted.has(id)).map(([, score]) => score);
  if (references.length === 0) return majority(scores);
  const same = [...scores].filter(([, score]) => references.some((reference) => alike(reference, score)));
  return new Set(same.map(([id]) => id));
}

/** The engines of the largest group that agrees pairwise with its first member, if it is more than half; else none. */
export function majority(scores: ReadonlyMap<string, PromptScore>): ReadonlySet<string> {
  let best: string[] = [];
  for (const [, reference] of scores) {
    const group = [...scores].filter(([, score]) => alike(reference, score)).map(([id]) => id);
    if (group.length > best.length) best = group;
  }
  return new Set(best.length * 2 > scores.size ? best : []);
}

function alike(a: PromptScore, b: PromptScore): boolean {
  return (
    a.length === b.length &&
    a.every((value, index) => Math.abs(value - (b[index] ?? Number.NaN)) <= TOLERANCE)
  );
}

function disagreement(agreeing: number): WeightcastError {
  return new WeightcastError(
    'WC_VERIFY_MISMATCH',
    agreeing === 0
      ? 'the engines disagree and none is in the majority, so none can be trusted'
      : 'it scores the fixed prompt unlike the rest of the fleet',
  );
}

async function exclude(attempt: Attempt, engine: EngineLink, error: unknown): Promise<void> {
  const { ledger, settings } = attempt;
  const cause = asWeightcastError(error, 'WC_VERIFY_MISMATCH', { engine: engine.id, phase: 'fingerprint' });
  ledger.pauseRequested(engine.id);
  try {
    await engine.call(engine.admin.pause({ mode: 'abort', clearCache: true }), {
      timeoutMs: settings.timeouts.pause,
    });
    ledger.quarantine(engine.id, cause);
  } catch (pauseError) {
    ledger.quarantine(engine.id, cause, `${cause.message}; it could not be paused, so it may be serving`);
    ledger.note(
      `${engine.id} disagrees and could not be paused (${String(pauseError)}): take it out of the load balancer`,
    );
  }
}
