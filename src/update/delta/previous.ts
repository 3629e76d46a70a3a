/** What the updates of a session left on its engines, kept so that the next delta can start from it. */
import { WeightcastError } from '../../errors.js';
import { checkpointIdentity } from '../../weights/identity.js';
import type { HeldVersions } from './held.js';

/** A version that engines hold, as far as one knows before they are asked. */
export interface DeltaBase {
  /** A directory or a .safetensors file. */
  readonly path: string;
  /** The weight version that engines with it say; null where none was given to them. */
  readonly version: string | null;
}

interface Kept extends DeltaBase {
  /** As checkpointIdentity gave it when the version was pushed. */
  readonly identity: string;
  /** Keeps retention away from it; null for what was not published. */
  readonly hold: AsyncDisposable | null;
}

export class PreviousVersions implements AsyncDisposable {
  readonly #held: HeldVersions;
  /** Newest first: one, or two where an update did not reach every engine. */
  #kept: readonly Kept[] = [];

  constructor(held: HeldVersions) {
    this.#held = held;
  }

  /** After an update, with what held its files meanwhile: only versions that some engine holds are kept. */
  async keep(pushed: Kept): Promise<void> {
    const all = [pushed, ...this.#kept];
    const identities = all.map(({ identity }) => identity);
    this.#kept = all.filter(
      ({ identity }, index) => this.#held.isHeld(identity) && identities.indexOf(identity) === index,
    );
    await release(all.filter((each) => !this.#kept.includes(each)));
  }

  /**
   * The newest version that some engine holds; null before the first that one took.
   *
   * @throws WeightcastError WC_DELTA_BASE when its files are gone, or are not those that were pushed
   */
  async newest(): Promise<DeltaBase | null> {
    const [newest] = this.#kept;
    if (newest === undefined) return null;
    const identity = await checkpointIdentity(newest.path);
    if (identity === newest.identity) return newest;
    throw new WeightcastError(
      'WC_DELTA_BASE',
      identity === null
        ? `${newest.path}, which the engines hold, is gone`
        : `${newest.path} is not any more what the engines hold: its files are others`,
      { phase: 'preflight', remedy: WHOLE_INSTEAD, details: { path: newest.path } },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = this.#kept;
    this.#kept = [];
    await release(all);
  }
}

async function release(versions: readonly Kept[]): Promise<void> {
  await Promise.all(versions.map(({ hold }) => hold?.[Symbol.asyncDispose]()));
}

const WHOLE_INSTEAD =
  'Pass --fallback filesystem: the engines then load the whole version from disk, and the next one goes as a delta again.';

/** Nothing is known that a delta could start from. */
export function nothingPushed(): WeightcastError {
  return new WeightcastError(
    'WC_DELTA_BASE',
    'no version is known that the engines hold: this session has pushed none to them yet',
    { phase: 'preflight', remedy: `${WHOLE_INSTEAD} Or name what they hold now by --delta-from.` },
  );
}
