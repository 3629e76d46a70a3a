/** Which version a watch pushes next: pure. */

/** A `step_<n>` folder that has its STABLE marker. */
export interface Step {
  readonly kind: 'step';
  readonly step: number;
  readonly path: string;
  /** Modification time of the marker, milliseconds. */
  readonly markedMs: number;
}

/** The watched folder itself, when it is a checkpoint. */
export interface Replaced {
  readonly kind: 'replaced';
  readonly path: string;
  /** Devices, inodes, sizes and times of its files: another value is another checkpoint. */
  readonly identity: string;
  readonly writtenMs: number;
}

/** What one look at the folder found. */
export interface Listing {
  /** The highest step with a marker. */
  readonly newest: Step | null;
  /** Steps above it without a marker, newest first: half-written ones, and deltas. */
  readonly unmarked: readonly string[];
  /** Whether the step that was pushed last still has its folder. */
  readonly lastStepExists: boolean;
  readonly checkpoint: Replaced | null;
}

export interface WatchState {
  /** What was pushed last, whether it succeeded or not: a version is tried once. */
  readonly last: Step | Replaced | null;
  /** Identity at the look before: a checkpoint without marker must hold still for one interval. */
  readonly seen: string | null;
}

export interface Plan {
  readonly push: Step | Replaced | null;
  readonly state: WatchState;
}

export const NOTHING_PUSHED: WatchState = { last: null, seen: null };

/** Straight to the newest: versions between are skipped. */
export function planPush(listing: Listing, state: WatchState): Plan {
  const step = nextStep(listing, state.last);
  if (step !== null) return { push: step, state: { last: step, seen: null } };
  const { checkpoint } = listing;
  if (listing.newest !== null || checkpoint === null) return { push: null, state: { ...state, seen: null } };
  const known = state.last?.kind === 'replaced' && state.last.identity === checkpoint.identity;
  if (known || state.seen !== checkpoint.identity) {
    return { push: null, state: { ...state, seen: checkpoint.identity } };
  }
  return { push: checkpoint, state: { last: checkpoint, seen: checkpoint.identity } };
}

function nextStep({ newest, lastStepExists }: Listing, last: Step | Replaced | null): Step | null {
  if (newest === null || last?.kind !== 'step') return newest;
  if (newest.step > last.step) return newest;
  const markedLater = newest.markedMs > last.markedMs;
  // Written again under the same number.
  if (newest.step === last.step) return markedLater ? newest : null;
  // A trainer that went back to an earlier checkpoint counts from there; a clean-up that only removed the last step does not.
  return markedLater && !lastStepExists ? newest : null;
}

/** The version name that engines record: the step number, or when the checkpoint was written. */
export function versionOf(version: Step | Replaced): string {
  return version.kind === 'step' ? String(version.step) : new Date(version.writtenMs).toISOString();
}
