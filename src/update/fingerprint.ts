/** Proof by fingerprint, right after the resume: all engines must score a fixed prompt alike. */
import type { PromptScore } from '../engines/admin.js';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import { type Attempt, enginesIn } from './attempt.js';
import { unproved } from './verify.js';

/**
 * Token ids that every vocabulary has. Noise between equal engines was measured up to 0.15 (bf16, another batch); another model differs by more than 2.
 * Two neighbouring versions of one run may differ by less than this: a fingerprint finds engines that are wrong, a digest proves that they are right.
 */
const PROMPT = [11, 7, 42, 3, 29, 17, 5, 53, 23, 37, 2, 61, 13, 47, 19, 31];
const TOLERANCE = 0.2;

/** Scores on every engine that serves the new version; those that disagree with the majority are paused and quarantined. */
export async function verifyByFingerprint(attempt: Attempt): Promise<void> {
  const { ledger, settings, facts } = attempt;
  const engines = enginesIn(attempt, 'serving-new');
  if (engines.length === 0) return;
  if (engines.length === 1) {
    const [only] = engines as [EngineLink];
    ledger.proofUnlessDigest(
      only.id,
      unproved('one engine alone has nobody to be compared with: use --verify digest'),
    );
    return;
  }
  ledger.enter('fingerprint');
  const { done, failed } = await onAll(engines, (engine) => {
    const model = facts.get(engine.id)?.model;
    if (model === null || model === undefined)
      throw new WeightcastError('WC_ENGINE_PROTOCOL', 'it lists no model to score with');
    return engine.call(engine.admin.scorePrompt({ model, tokens: PROMPT }), {
      timeoutMs: settings.timeouts.score,
    });
  });
  for (const [id, error] of failed) {
    ledger.proofUnlessDigest(
      id,
      unproved(`the prompt could not be scored: ${error instanceof Error ? error.message : String(error)}`),
    );
    await exclude(attempt, engines, id, error);
  }
  const agreement = majority(done);
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
    if (agrees) continue;
    const what =
      agreement.size === 0
        ? 'the engines disagree and none is in the majority, so none can be trusted'
        : 'it scores the fixed prompt unlike the rest of the fleet';
    await exclude(attempt, engines, id, new WeightcastError('WC_VERIFY_MISMATCH', what));
  }
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

async function exclude(
  attempt: Attempt,
  engines: readonly EngineLink[],
  id: string,
  error: unknown,
): Promise<void> {
  const { ledger, settings } = attempt;
  const engine = engines.find((candidate) => candidate.id === id);
  if (engine === undefined) return;
  const cause = asWeightcastError(error, 'WC_VERIFY_MISMATCH', { engine: id, phase: 'fingerprint' });
  ledger.pauseRequested(id);
  try {
    await engine.call(engine.admin.pause({ mode: 'abort', clearCache: true }), {
      timeoutMs: settings.timeouts.pause,
    });
    ledger.quarantine(id, cause);
  } catch (pauseError) {
    ledger.quarantine(id, cause);
    ledger.note(
      `${id} disagrees and could not be paused (${String(pauseError)}): take it out of the load balancer`,
    );
  }
}
