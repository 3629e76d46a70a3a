/** What a user asks of a delta, and what happens instead where none can be made. */
import { resolve } from 'node:path';
import { type ErrorCode, WeightcastError } from '../../errors.js';
import type { Checkpoint } from '../../weights/checkpoint.js';
import type { Attempt } from '../attempt.js';
import type { DigestBook } from '../digests.js';
import type { TransportName, UpdateOptions } from '../types.js';
import type { HeldVersions } from './held.js';
import { type Delta, prepareDelta } from './prepare.js';
import { type DeltaBase, nothingPushed, type PreviousVersions } from './previous.js';

export interface DeltaRequest {
  /** The version before. @throws WeightcastError WC_DELTA_BASE where none is known */
  base(): Promise<DeltaBase>;
  readonly held: HeldVersions;
  readonly bookOf: (base: Checkpoint) => DigestBook;
}

/** null for an update by whole weights. @throws WeightcastError WC_CONFIG_INVALID */
export function deltaRequest(
  { delta = false, deltaFrom, deltaFromVersion }: UpdateOptions,
  { transport, previous, ...parts }: DeltaParts,
): DeltaRequest | null {
  if (deltaFromVersion !== undefined && deltaFrom === undefined) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      'deltaFromVersion: it says of which version deltaFrom is, and that is missing',
    );
  }
  if (!delta && deltaFrom === undefined) return null;
  if (transport !== 'nccl') {
    const option = deltaFrom === undefined ? 'delta' : 'deltaFrom';
    throw new WeightcastError('WC_CONFIG_INVALID', `${option}: a delta is sent by NCCL, not by files`, {
      remedy: 'Leave out --delta, --delta-from or --transport filesystem.',
    });
  }
  const named =
    deltaFrom === undefined ? null : { path: resolve(deltaFrom), version: deltaFromVersion ?? null };
  return {
    ...parts,
    base: async () => {
      const base = (delta ? await previous.newest() : null) ?? named;
      if (base === null) throw nothingPushed();
      return base;
    },
  };
}

export interface DeltaParts extends Pick<DeltaRequest, 'held' | 'bookOf'> {
  readonly transport: TransportName;
  readonly previous: PreviousVersions;
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
