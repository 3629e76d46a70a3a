import type { Checksums } from '../../engines/admin.js';
import { resolver, tensorParallelRank } from './names.js';
import type { Mismatched, ProofParameter, ProofPlan, ProofVerdict, Proved, Unprovable } from './types.js';

/** SHA-256 of no bytes. */
const NOTHING = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** Why a parameter that no tensor makes is unprovable. */
export const NOT_IN_CHECKPOINT = 'not in the checkpoint';

/**
 * Holds what an engine reports against the digests of the plan's candidates (hex, in their order).
 *
 * A parameter with the hash of one of its candidates is proved. One with another hash is a mismatch (fail closed), unless there is a known
 * reason for which the engine may rightly hold other bytes; then, and when the checkpoint has no counterpart, it is unprovable with the reason.
 */
export function judge(plan: ProofPlan, digests: readonly string[], reported: Checksums): ProofVerdict {
  const proved: Proved[] = [];
  const mismatched: Mismatched[] = [];
  const unprovable: Unprovable[] = [];
  const covered = new Set<string>();
  const resolve = resolver(plan.parameters.keys());
  let total = 0;
  for (const [worker, checksums] of reported) {
    const rank = plan.tpSize === 1 ? 0 : tensorParallelRank(worker);
    for (const [parameter, checksum] of checksums) {
      total += 1;
      const found = resolve(parameter);
      const known = found === null ? undefined : plan.parameters.get(found.name);
      if (found === null || known === undefined) {
        unprovable.push({ worker, parameter, reason: NOT_IN_CHECKPOINT });
        continue;
      }
      for (const tensor of known.tensors) covered.add(tensor);
      const tried = known.candidates.filter((index) => {
        const candidate = plan.candidates[index];
        return candidate !== undefined && (candidate.rank === null || candidate.rank === rank);
      });
      const equal = tried.filter((index) => digests[index] === checksum.toLowerCase());
      if (equal.length > 0) {
        proved.push({
          worker,
          parameter,
          by: describe(plan, equal[0]),
          keys: equal.map((index) => keyOf(plan, index)),
        });
        continue;
      }
      const renamed = found.certain
        ? null
        : `named otherwise in the checkpoint (${known.name}), and not its bytes`;
      const reason = excuse(known, checksum, rank) ?? renamed;
      if (reason !== null) unprovable.push({ worker, parameter, reason });
      else
        mismatched.push({
          worker,
          parameter,
          reported: checksum,
          tried: tried.map((index) => describe(plan, index)),
        });
    }
  }
  const unreported = plan.tensors.filter((name) => !covered.has(name));
  const complete = proved.length > 0 && mismatched.length + unprovable.length + unreported.length === 0;
  return { proved, mismatched, unprovable, unreported, workers: reported.size, total, complete };
}

/**
 * What is left to hash for the next checkpoint of the same fleet: of each parameter that was proved, the forms that fitted; nothing of those
 * that could not be proved or were not reported. `plan` may be a plan of the next checkpoint, the verdict one of an earlier.
 *
 * @example
 * ```ts
 * const plan = narrow(candidatesFor(next.tensors, 2), verdictOfTheFirstUpdate);
 * ```
 */
export function narrow(plan: ProofPlan, verdict: ProofVerdict): ProofPlan {
  const fitting = new Map<string, Set<string>>();
  const resolve = resolver(plan.parameters.keys());
  const nameOf = (parameter: string) => resolve(parameter)?.name ?? parameter;
  const failed = new Set(verdict.mismatched.map(({ parameter }) => nameOf(parameter)));
  const reasons = new Map(verdict.unprovable.map(({ parameter, reason }) => [nameOf(parameter), reason]));
  for (const { parameter, keys } of verdict.proved) {
    const name = nameOf(parameter);
    const known = fitting.get(name) ?? new Set();
    fitting.set(name, known);
    for (const key of keys) known.add(key);
  }
  const kept = new Map<number, number>();
  const parameters = new Map<string, ProofParameter>();
  for (const [name, parameter] of plan.parameters) {
    const keys = fitting.get(name);
    const all = failed.has(name);
    const indices = parameter.candidates.filter((index) => all || keys?.has(keyOf(plan, index)));
    for (const index of indices) if (!kept.has(index)) kept.set(index, kept.size);
    const doubt =
      indices.length > 0
        ? parameter.doubt
        : (reasons.get(name) ?? 'not reported when the layout was learned');
    parameters.set(name, {
      ...parameter,
      candidates: indices.map((index) => kept.get(index) as number),
      doubt,
    });
  }
  const candidates = [...kept.keys()].flatMap((index) => plan.candidates[index] ?? []);
  return { ...plan, candidates, parameters };
}

function excuse(known: ProofParameter, checksum: string, rank: number | null): string | null {
  if (checksum.toLowerCase() === NOTHING && known.candidates.length > 0) {
    return 'the engine reports no bytes for this parameter: repacked by its CPU or quantised kernels';
  }
  if (known.doubt !== null) return known.doubt;
  return rank === null ? "the worker's key does not tell its tensor-parallel rank" : null;
}

function keyOf(plan: ProofPlan, index: number): string {
  return plan.candidates[index]?.key ?? '';
}

function describe(plan: ProofPlan, index: number | undefined): string {
  return index === undefined ? '' : (plan.candidates[index]?.description ?? '');
}
