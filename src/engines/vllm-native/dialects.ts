/**
 * What each vLLM version's weight transfer takes, whoever calls it (its own server, or a Dynamo worker around it), as one table
 * (contracts/vllm.md: measured on the versions recorded in test/vectors/vllm; the releases between them are read from source there). A row says
 * what changed since the row before.
 */
import { WeightcastError } from '../../errors.js';
import type { Capabilities } from '../admin.js';
import { compareVersions, parseVersion, type VllmVersion } from './version.js';

export interface Dialect {
  readonly capabilities: Capabilities;
  /** `is_checkpoint_format`: a field of update_info, later of the start body, later gone. */
  readonly checkpointFormatIn: 'update' | 'start' | 'nowhere';
  /** Its backend `sparse_nccl` takes the checkpoint's names and flat indices; before, it took those of fused runtime parameters (contracts/vllm.md 1.10). */
  readonly sparse: boolean;
}

interface Row
  extends Partial<
    Omit<
      Capabilities,
      'wire' | 'pauseModes' | 'diskLoad' | 'needsWeightVersion' | 'transferBackend' | 'joinWithinMs'
    >
  > {
  readonly since: string;
  readonly checkpointFormatIn?: Dialect['checkpointFormatIn'];
  readonly sparse?: boolean;
}

const FIRST: Required<Row> = {
  since: '0.16.0',
  rounds: 'one-shot',
  packedIn: 'update',
  uniqueId: 'store',
  restoresByEmptyRound: false,
  weightVersion: false,
  weightChecker: false,
  shutdownTransfer: false,
  resetSaysSuccess: false,
  newRequestsWhilePaused: 'queue',
  isPausedLiesAfterKeep: true,
  updateAnswersEarly: true,
  checkpointFormatIn: 'update',
  sparse: false,
};

const CHANGES: readonly Row[] = [
  // The pause moved into the engine core.
  { since: '0.17.0', isPausedLiesAfterKeep: false },
  { since: '0.18.0', updateAnswersEarly: false },
  { since: '0.21.0', rounds: 'three-step', checkpointFormatIn: 'start' },
  // Since 0.23 a failed update closes its session; start + finish after it was measured from 0.24 on.
  { since: '0.24.0', restoresByEmptyRound: true },
  { since: '0.25.0', checkpointFormatIn: 'nowhere' },
  { since: '0.26.0', resetSaysSuccess: true },
  { since: '0.27.0', weightVersion: true },
  { since: '0.28.0', packedIn: 'init' },
  // nccl_unique_id_b64 was seen in exactly 0.30.0 and from 0.32 on; the store works between them.
  { since: '0.30.0', uniqueId: 'inline', sparse: true },
  { since: '0.30.1', uniqueId: 'store' },
  { since: '0.32.0', uniqueId: 'inline', weightChecker: true, shutdownTransfer: true },
  { since: '0.33.0', newRequestsWhilePaused: 'refuse' },
];

function sinceOf(row: Row): VllmVersion {
  const version = parseVersion(row.since);
  if (version === null) throw new Error(`bad row ${row.since}`);
  return version;
}

const OLDEST = sinceOf(FIRST);
const NEWEST = sinceOf(CHANGES.at(-1) ?? FIRST);

export interface Selection {
  readonly dialect: Dialect;
  readonly notes: readonly string[];
}

/**
 * The dialect of a version.
 *
 * @throws WeightcastError WC_ENGINE_VERSION when the version is older than 0.16 or no version at all.
 */
export function selectDialect(text: string, engine?: string): Selection {
  const version = parseVersion(text);
  if (version === null || compareVersions(version, OLDEST) < 0) {
    const what = version === null ? 'is not a version that vLLM gives' : 'is older than 0.16';
    throw new WeightcastError(
      'WC_ENGINE_VERSION',
      `the server says that it is vLLM ${JSON.stringify(text.slice(0, 80))}, which ${what}`,
      { engine, details: { version: text.slice(0, 80) } },
    );
  }
  const merged: Required<Row> = { ...FIRST };
  for (const change of CHANGES) {
    if (compareVersions(sinceOf(change), version) <= 0) Object.assign(merged, change);
  }
  const { since: _, checkpointFormatIn, sparse, ...capabilities } = merged;
  const newer = version.major > NEWEST.major || version.minor > NEWEST.minor;
  const notes = newer
    ? [
        `vLLM ${text} is newer than the versions that weightcast knows: it is spoken to as ${NEWEST.major}.${NEWEST.minor}`,
      ]
    : [];
  return {
    dialect: { capabilities: { ...capabilities, wire: 'vllm', diskLoad: true }, checkpointFormatIn, sparse },
    notes,
  };
}
