/** Which engines hold the version that a delta starts from: proved for each, never assumed. */
import { asWeightcastError } from '../../errors.js';
import { type EngineLink, onAll } from '../../fleet/engine.js';
import { NOT_IN_CHECKPOINT } from '../../weights/proof.js';
import type { Attempt } from '../attempt.js';
import type { DigestBook } from '../digests.js';
import { settled } from '../late-answers.js';

/** What is known of one engine without asking it anything more. */
export interface BaseFacts {
  /** It was found paused, or left by a push that died. */
  readonly suspect: boolean;
  /** This session proved the base's very files in this very process, and nobody else has pushed to it since. */
  readonly remembered: boolean;
  /** The weight version that it says; null where it can't. */
  readonly saysVersion: string | null;
  /** The weight version that the user says the base has; null where nothing is said. */
  readonly baseVersion: string | null;
  readonly checker: boolean;
  readonly verify: 'auto' | 'digest' | 'fingerprint' | 'none';
}

export type BaseEvidence =
  /** It holds the base: why that is known. */
  | { readonly kind: 'known'; readonly by: string }
  | { readonly kind: 'other'; readonly why: string }
  /** Its own weight checker decides. */
  | { readonly kind: 'ask' };

/** Pure decision: by what it is judged whether an engine holds the base. */
export function evidenceOf(facts: BaseFacts): BaseEvidence {
  const { saysVersion, baseVersion, checker, verify } = facts;
  if (facts.suspect) return { kind: 'other', why: 'it was found paused or half-updated' };
  if (baseVersion !== null && saysVersion !== null && saysVersion !== baseVersion) {
    return { kind: 'other', why: `it says weight version ${saysVersion}, not ${baseVersion}` };
  }
  if (facts.remembered && verify !== 'digest')
    return { kind: 'known', by: 'this session gave it to the same process' };
  const tagged = baseVersion !== null && saysVersion === baseVersion;
  if (tagged && (!checker || verify === 'fingerprint' || verify === 'none')) {
    return { kind: 'known', by: `it says weight version ${baseVersion}` };
  }
  if (checker) return { kind: 'ask' };
  return {
    kind: 'other',
    why: 'it has no weight checker, and no weight version of the base is given to compare with its own',
  };
}

export interface BaseProofs {
  /** Engines that hold the base. */
  readonly on: readonly EngineLink[];
  /** The others: why. */
  readonly off: ReadonlyMap<string, string>;
}

export interface BaseOptions {
  readonly remembered: ReadonlySet<string>;
  readonly baseVersion: string | null;
  /** Digests of the base. */
  readonly book: DigestBook;
}

/** Judges every engine, those that serve now: nobody is paused yet. @throws what reading the base gives */
export async function proveBase(attempt: Attempt, options: BaseOptions): Promise<BaseProofs> {
  const { engines, ledger, facts, settings, signal } = attempt;
  const evidence = new Map(
    engines.map((engine) => [
      engine.id,
      evidenceOf({
        suspect: ledger.is(engine.id, 'quarantined'),
        remembered: options.remembered.has(engine.id),
        saysVersion: facts.get(engine.id)?.weightVersion ?? null,
        baseVersion: options.baseVersion,
        checker: engine.admin.capabilities.weightChecker,
        verify: settings.verify,
      }),
    ]),
  );
  const asked = engines.filter(({ id }) => evidence.get(id)?.kind === 'ask');
  for (const { id } of asked) {
    const workers = facts.get(id)?.workers ?? 1;
    if (options.book.canPrepare(workers)) await options.book.prepare(workers, signal);
  }
  const { done, failed } = await onAll(asked, (engine) => askChecker(attempt, engine, options.book));
  const off = new Map<string, string>();
  for (const { id } of engines) {
    const judged = evidence.get(id);
    if (judged?.kind === 'other') off.set(id, judged.why);
    if (judged?.kind === 'known') ledger.note(`${id}: holds the base: ${judged.by}`);
    const verdict = done.get(id);
    if (typeof verdict === 'string') off.set(id, verdict);
    const error = failed.get(id);
    if (error !== undefined)
      off.set(id, `its weight checker failed: ${asWeightcastError(error, 'WC_ENGINE_HTTP').message}`);
  }
  signal.throwIfAborted();
  return { on: engines.filter(({ id }) => !off.has(id)), off };
}

/** null when it holds the base, byte by byte; else why that is not so, or not known. */
async function askChecker(attempt: Attempt, engine: EngineLink, book: DigestBook): Promise<string | null> {
  const { settings, facts, signal } = attempt;
  const exchange = engine.admin.checksums();
  if (exchange === null) return 'it has no weight checker';
  const reported = await settled(attempt, engine, settings.timeouts.checksum, (timeoutMs) =>
    engine.call(exchange, { timeoutMs, signal }),
  );
  const workers = facts.get(engine.id)?.workers ?? reported.size;
  const verdict = await book.judge(reported, { workers, timeoutMs: settings.timeouts.checksum });
  const [wrong] = verdict.mismatched;
  if (wrong !== undefined)
    return `${verdict.mismatched.length} of its ${verdict.total} parameters are not the base's: ${wrong.worker} ${wrong.parameter}`;
  if (verdict.workers < workers) return `${verdict.workers} of its ${workers} workers reported`;
  // A parameter that no tensor of the checkpoint makes can't be patched either; one that some tensor makes must be seen to be right.
  const unseen = verdict.unprovable.find(({ reason }) => reason !== NOT_IN_CHECKPOINT);
  if (unseen !== undefined)
    return `${unseen.worker} ${unseen.parameter} can't be compared with the base's (${unseen.reason})`;
  return verdict.proved.length > 0 ? null : 'none of its parameters can be compared with the base';
}
