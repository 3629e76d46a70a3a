/** Engines whose workers wait in NCCL for the ranks of a group that did not come about: NCCL does not let go of them, so somebody has to be told which these are. */
import { hasCode, WeightcastError } from '../errors.js';
import type { CallOptions, EngineFacts, EngineLink } from '../fleet/engine.js';
import { type Finding, joiningRecord } from './claim/found.js';
import { describeRecord } from './claim/record.js';
import type { FoundRecord } from './claim/records.js';

/**
 * What a server answers that can't say whether it is paused comes from its front end, also while its workers wait in NCCL for a push that has ended. A resume
 * reaches them, and does nothing where nobody has paused: a push joins before it pauses. One that is in doubt is not resumed.
 *
 * @throws WeightcastError WC_ENGINE_TIMEOUT
 */
export async function requireOutOfJoin(
  engine: EngineLink,
  { paused }: EngineFacts,
  { kind }: Finding,
  found: readonly FoundRecord[],
  options: CallOptions,
): Promise<void> {
  if (paused !== null || kind === 'doubt' || kind === 'whole') return;
  if (joiningRecord(found, engine.url) === null) return;
  await engine.call(engine.admin.resume(), options).catch((error: unknown) => {
    // A refusal is an answer.
    if (error instanceof WeightcastError && error.details.status !== undefined) return;
    throw stuckInJoin(found, engine.url, error) ?? error;
  });
}

/** Why an engine that does not answer may never do so again; null when that is not known, and for one that is not there: it may be starting. */
export function stuckInJoin(
  found: readonly FoundRecord[],
  url: string,
  cause: unknown,
): WeightcastError | null {
  const record = joiningRecord(found, url);
  if (record === null || !hasCode(cause, 'WC_ENGINE_TIMEOUT')) return null;
  const ended = `${describeRecord(record.head)} ended while this engine joined its NCCL group`;
  return new WeightcastError(
    'WC_ENGINE_TIMEOUT',
    // Named, or a report would take what two of them have for one error.
    `${url} does not answer: ${ended}, and its workers wait for a rank that is gone`,
    { engine: url, phase: 'preflight', cause, remedy: 'Restart it: a rendezvous of NCCL has no way out.' },
  );
}

/** Of an engine that was in the rendezvous of this very push when that was given up, and has not said since that it is out. */
export function leftInJoin(url: string, cause: unknown): WeightcastError {
  return new WeightcastError(
    'WC_ENGINE_TIMEOUT',
    'it has not left the NCCL group that was given up: its workers wait for a rank that does not come',
    {
      ...{ engine: url, phase: 'rendezvous', cause },
      remedy: 'Restart it, unless it answers again (weightcast doctor): a rendezvous of NCCL has no way out.',
    },
  );
}
