/** Which version each engine holds, as far as this session put it there: what a delta may start from without asking the engine. */
import { checkpointIdentity } from '../../weights/identity.js';
import type { GroupMarks } from '../claim/group-marks.js';
import type { Ledger } from '../ledger.js';

export class HeldVersions {
  /** By engine, as checkpointIdentity gives it. */
  readonly #identities = new Map<string, string>();
  /** Who pushed last: what others gave to an engine since, this session does not know. */
  readonly #pushes: GroupMarks;

  constructor(pushes: GroupMarks) {
    this.#pushes = pushes;
  }

  /** Before these engines are given anything. @throws WeightcastError WC_STATE_DIR */
  async announce(ids: readonly string[]): Promise<void> {
    await this.#pushes.set(ids);
  }

  /** It may hold anything. */
  forget(id: string): void {
    this.#identities.delete(id);
  }

  /** After an update to the checkpoint with this identity; null where its files can't be told. */
  remember(ids: readonly string[], ledger: Ledger, identity: string | null): void {
    for (const id of ids) {
      if (ledger.isUntouched(id)) continue;
      if (identity !== null && ledger.is(id, 'serving-new')) this.#identities.set(id, identity);
      else this.#identities.delete(id);
    }
  }

  /** Whether some engine was given the checkpoint with this identity, and nothing since. */
  isHeld(identity: string): boolean {
    return [...this.#identities.values()].includes(identity);
  }

  /** Engines that hold the files at this path, given by this session, with nobody else's push since. @throws WeightcastError WC_STATE_DIR */
  async holding(path: string): Promise<ReadonlySet<string>> {
    const identity = await checkpointIdentity(path);
    const same = [...this.#identities].filter(([, each]) => each === identity).map(([id]) => id);
    const ours = await Promise.all(same.map((id) => this.#pushes.stand([id])));
    return new Set(same.filter((_, index) => ours[index]));
  }
}
