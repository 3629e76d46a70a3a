/** What a user asks of a delta, and what happens instead where none can be made. */
import { resolve } from 'node:path';
import { type ErrorCode, WeightcastError } from '../../errors.js';
import type { Checkpoint } from '../../weights/checkpoint.js';
import type { Attempt } from '../attempt.js';
import type { DigestBook } from '../digests.js';
import type { TransportName, UpdateOptions } from '../types.js';
import type { HeldVersions } from './held.js';
import { type Delta, prepareDelta } from './prepare.js';

export interface DeltaRequest {
  /** The version before: a directory or a .safetensors file. */
  readonly from: string;
  /** The weight version that engines with the base say, where the user gives it. */
  readonly fromVersion: string | null;
  readonly held: HeldVersions;
  readonly bookOf: (base: Checkpoint) => DigestBook;
}

/** null for an update by whole weights. @throws WeightcastError WC_CONFIG_INVALID */
export function deltaRequest(
  { deltaFrom, deltaFromVersion }: UpdateOptions,
  { transport, ...parts }: Pick<DeltaRequest, 'held' | 'bookOf'> & { readonly transport: TransportName },
): DeltaRequest | null {
  if (deltaFrom !== undefined) {
    if (transport === 'nccl')
      return { from: resolve(deltaFrom), fromVersion: deltaFromVersion ?? null, ...parts };
    throw new WeightcastError('WC_CONFIG_INVALID', 'deltaFrom: a delta is sent by NCCL, not by files', {
      remedy: 'Leave out --delta-from or --transport filesystem.',
    });
  }
  if (deltaFromVersion === undefined) return null;
  throw new WeightcastError(
    'WC_CONFIG_INVALID',
    'deltaFromVersion: it says of which version deltaFrom is, and that is missing',
  );
}

/** null where every engine is to load the whole version from disk instead. @throws what {@link prepareDelta} throws, where that is not allowed */
export async function deltaUnlessFiles(attempt: Attempt, request: DeltaRequest): Promise<Delta | null> {
  try {
    return await prepareDelta(attempt, request);
  } catch (error) {
    if (!filesServeInstead(attempt, error)) throw error;
    const why = (error as Error).message;
    attempt.ledger.note(`no delta (${why}): every engine loads the whole version from disk`);
    return null;
  }
}

/** What speaks against a delta and not against the weights. */
const ONLY_DELTA: ReadonlySet<ErrorCode> = new Set([
  'WC_DELTA_BASE',
  'WC_DELTA_TOO_LARGE',
  'WC_TENSOR_UNSENDABLE',
  'WC_FILE_WRITE',
  'WC_ENGINE_NOT_CONFIGURED',
]);

/** True where the user allows files and every engine loads them: the whole version goes that way when no delta can be made. */
function filesServeInstead({ settings, checkpoint, engines, signal }: Attempt, error: unknown): boolean {
  if (signal.aborted || settings.fallback !== 'filesystem' || checkpoint.path === null) return false;
  const loads = engines.every(({ admin }) => admin.capabilities.diskLoad);
  return loads && error instanceof WeightcastError && ONLY_DELTA.has(error.code);
}
