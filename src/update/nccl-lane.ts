/** The engines of one wire format: they share a communicator, which stands between updates. */
import type { Packing, TensorSpec, WeightsUpdate, WireFormat } from '../engines/admin.js';
import { encodeAhead, jsonSteps } from '../engines/json-body.js';
import type { EngineLink } from '../fleet/engine.js';
import {
  type Group,
  type GroupMember,
  type GroupOptions,
  groupStands,
  openGroup,
} from '../transports/nccl/group.js';
import type { Staging } from '../transports/nccl/wire/memory.js';
import type { WirePlan } from '../transports/nccl/wire/plan.js';
import { orLeave } from '../waits.js';
import { flattenSteps } from '../weights/flatten.js';
import { runInSlices } from '../weights/yielding.js';
import type { Attempt } from './attempt.js';
import { tagFor } from './tag.js';
import type { LaneTransfer } from './transfer-lane.js';

/** What one wire format has to do in one update. */
export interface LaneWork {
  readonly wire: WireFormat;
  readonly members: readonly GroupMember[];
  readonly plan: WirePlan;
  readonly staging: Staging;
  readonly packing: Packing | null;
  /** What the plan's frames lie in. */
  readonly files: readonly { readonly path: string; readonly byteLength: number }[];
  /** What engines must be known to accept; default: the plan's own list. */
  readonly acceptedList?: readonly TensorSpec[] | undefined;
}

export class NcclLane {
  readonly wire: WireFormat;
  #group: Group | null = null;
  /** The list that every engine of the group has accepted. */
  #accepted: Buffer | null = null;
  /** The group of the update before serves this one. */
  reused = false;

  constructor(wire: WireFormat) {
    this.wire = wire;
  }

  get group(): Group | null {
    return this.#group;
  }

  /** True when the group can carry another update to exactly these engines. */
  async stands({ members, packing }: LaneWork): Promise<boolean> {
    return this.#group !== null && groupStands(this.#group, members, packing);
  }

  /** A fresh rendezvous. @throws what {@link openGroup} throws */
  async open(options: GroupOptions): Promise<void> {
    this.#group = await openGroup(options);
  }

  /** Opens the files and reads the first frames. */
  async stage(work: LaneWork, attempt: Attempt, directory: string): Promise<LaneTransfer> {
    const { settings, signal } = attempt;
    const { plan, staging, files } = work;
    const group = this.#group as Group;
    const updateFor = updates(attempt, {
      tensors: plan.tensors,
      updates: plan.updates,
      packing: group.packing,
      weightVersion: null,
      directory,
    });
    for (const { engine } of group.members) {
      await encodeAhead(engine.admin.updateWeights(updateFor(engine)).body, signal);
    }
    const accepted = { tensors: work.acceptedList ?? plan.tensors, packing: group.packing };
    const isDelta = plan.updates !== undefined;
    const list = await runInSlices(jsonSteps({ ...accepted, isDelta }), signal);
    const native = await runInSlices(flattenSteps(plan.frames, files, staging), signal);
    return {
      wire: this.wire,
      engines: group.members.map(({ engine }) => engine),
      communicator: group.communicator,
      transfer: await orLeave(group.communicator.prepare(native, settings.timeouts.update), signal, (late) =>
        late.close(),
      ),
      updateFor,
      totalBytes: plan.byteLength,
      frames: plan.frames.length,
      // Where an engine does not say when it was started, it may be another process than the one that accepted the list.
      accepted:
        this.#accepted?.equals(list) === true &&
        group.members.every(({ processStart }) => processStart !== null),
      onAccepted: () => {
        this.#accepted = list;
      },
    };
  }

  /** Ends the group. @param timeoutMs default 10 s */
  async drop(timeoutMs?: number): Promise<void> {
    const group = this.#group;
    this.#group = null;
    this.#accepted = null;
    await group?.close(timeoutMs).catch(() => undefined);
  }
}

/** One update for all engines that take the same tag: its list is megabytes, encoded once. */
function updates(attempt: Attempt, update: WeightsUpdate): (engine: EngineLink) => WeightsUpdate {
  const made = new Map<string | null, WeightsUpdate>();
  return (engine) => {
    const weightVersion = tagFor(attempt, engine);
    const known = made.get(weightVersion) ?? { ...update, weightVersion };
    made.set(weightVersion, known);
    return known;
  };
}
