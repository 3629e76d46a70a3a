/** The NCCL side of a session: the runtime, the groups that stand between updates, one for each wire format, and what is staged before a pause. */
import { setMaxListeners } from 'node:events';
import { dirname } from 'node:path';
import { asWeightcastError, hasCode, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import type { NativeRuntime } from '../native.js';
import { allOrFirstFailure, type Group } from '../transports/nccl/group.js';
import { meetingOf } from '../transports/nccl/meeting.js';
import { openRuntime } from '../transports/nccl/runtime.js';
import { orLeave } from '../waits.js';
import { requireUnchanged } from '../weights/unchanged.js';
import type { Attempt, Carrier } from './attempt.js';
import type { GroupMarks } from './claim/group-marks.js';
import { deltasOnly } from './delta/backend.js';
import { deltaCarrier } from './delta/carrier.js';
import type { Delta } from './delta/prepare.js';
import { withoutNccl } from './lacking.js';
import { type LaneWork, NcclLane } from './nccl-lane.js';
import { laneOf, planLanes } from './plan-lanes.js';
import type { Settings } from './settings.js';
import { leftInJoin } from './stuck-in-join.js';
import { filesystemCarrier } from './transfer-files.js';
import type { LaneTransfer } from './transfer-lane.js';
import { ncclCarrier } from './transfer-nccl.js';
import type { UpdateReport } from './types.js';

/** Milliseconds that an engine gets to let go of its communicator. */
const SHUTDOWN_MS = 5_000;

/** When a preparation fails, for instance at its deadline, other groups may stand: the call returns within a second all the same. */
const DROP_MS = 800;

export class NcclSender {
  readonly #marks: GroupMarks;
  #runtime: NativeRuntime | null = null;
  /** In the order of the wire formats' first engines. */
  #lanes: readonly NcclLane[] = [];
  #trusted = true;
  /** Engines that the last rendezvous left in NCCL. */
  #stuck: readonly string[] = [];
  memory: UpdateReport['memory'] = null;

  constructor(marks: GroupMarks) {
    this.#marks = marks;
  }

  get emulated(): boolean {
    return this.#runtime?.emulated ?? false;
  }

  describe(): UpdateReport['nccl'] {
    const groups = this.#lanes.flatMap(({ wire, group, reused }) =>
      group === null
        ? []
        : [{ wire, worldSize: group.worldSize, reused, engines: group.members.map((m) => m.engine.id) }],
    );
    if (this.#runtime === null || groups.length === 0) return null;
    const { ncclVersion, ncclLibrary } = this.#runtime;
    return {
      version: ncclVersion,
      library: ncclLibrary,
      worldSize: groups.reduce((sum, { worldSize }) => sum + worldSize, 0),
      reused: groups.every(({ reused }) => reused),
      groups,
    };
  }

  /** The next update builds new groups. */
  distrust(): void {
    this.#trusted = false;
  }

  /**
   * Everything that can be done before the pause: plans, libraries, memory, rendezvous, first frames staged. Falls back to files, where that is
   * allowed and every engine loads them, when NCCL can't be used.
   */
  async prepare(attempt: Attempt, delta: Delta | null = null): Promise<Carrier> {
    const { ledger, settings, checkpoint } = attempt;
    this.#stuck = [];
    const work = delta === null ? await planLanes(attempt) : [laneOf(attempt, delta)];
    try {
      if (delta !== null) return deltaCarrier(await this.#stage(attempt, work), delta);
      const unable = attempt.engines.find(({ admin }) => admin.capabilities.wire === null);
      if (unable !== undefined) throw withoutNccl(unable);
      const sparse = attempt.engines.find(
        ({ admin }) => admin.capabilities.transferBackend === 'sparse_nccl',
      );
      if (sparse !== undefined) throw deltasOnly(sparse);
      return await this.#stage(attempt, work);
    } catch (error) {
      await this.#dropLanes(DROP_MS);
      const cause = asWeightcastError(error, 'WC_NCCL_FAILED');
      if (
        settings.fallback !== 'filesystem' ||
        checkpoint.path === null ||
        !filesMayHelp(cause) ||
        attempt.signal.aborted
      ) {
        throw cause;
      }
      // The first line: below it are the places where a library was sought, which doctor shows.
      const why = cause.message.split('\n', 1)[0]?.replace(/; tried:$/, '');
      const unable = attempt.engines.find(({ admin }) => !admin.capabilities.diskLoad);
      if (unable !== undefined) {
        ledger.note(`no fallback to files: ${unable.id} loads no weights from a directory`);
        throw cause;
      }
      // All others would be paused until the deadline of a pause that these don't answer.
      if (this.#stuck.length > 0) {
        ledger.note(`no fallback to files: ${this.#stuck.join(', ')} would not answer a pause`);
        throw cause;
      }
      ledger.note(`NCCL can't be used (${cause.code}: ${why}): falling back to files`);
      return filesystemCarrier(checkpoint.path);
    }
  }

  async #stage(attempt: Attempt, work: readonly LaneWork[]): Promise<Carrier> {
    const { ledger, settings, checkpoint, signal } = attempt;
    this.#runtime ??= await openRuntime(settings, signal);
    requireDevice(this.#runtime, settings.device);
    const sum = (kind: 'device' | 'pinned') =>
      work.reduce((total, { staging }) => total + staging.peakBytes[kind], 0);
    this.memory = { device: sum('device'), pinned: sum('pinned') };
    await this.#joinGroups(attempt, work);
    ledger.enter('stage');
    signal.throwIfAborted();
    const directory = checkpoint.path ?? dirname(checkpoint.files[0]?.path ?? '');
    const staged: LaneTransfer[] = [];
    try {
      for (const [index, lane] of this.#lanes.entries()) {
        staged.push(await lane.stage(work[index] as LaneWork, attempt, directory));
      }
      // The files are open now, and each read will see whether somebody wrote to them; this sees what was written before.
      await requireUnchanged(checkpoint.files, { mayBeGone: true });
    } catch (error) {
      await Promise.all(staged.map(({ transfer }) => transfer.close().catch(() => undefined)));
      throw error;
    }
    return ncclCarrier(staged);
  }

  /** The standing groups that still fit their engines as they are now; for the others a fresh rendezvous, all at the same time. */
  async #joinGroups(attempt: Attempt, work: readonly LaneWork[]): Promise<void> {
    const { ledger, settings } = attempt;
    const lanes = work.map(
      ({ wire }) => this.#lanes.find((lane) => lane.wire === wire) ?? new NcclLane(wire),
    );
    await Promise.all(this.#lanes.filter((lane) => !lanes.includes(lane)).map((lane) => lane.drop()));
    this.#lanes = lanes;
    const suspects = new Set(ledger.in('quarantined'));
    const fresh: { readonly lane: NcclLane; readonly work: LaneWork; readonly port: number }[] = [];
    for (const [index, lane] of lanes.entries()) {
      const own = work[index] as LaneWork;
      lane.reused =
        this.#trusted &&
        !own.members.some(({ engine }) => suspects.has(engine.id)) &&
        (await lane.stands(own)) &&
        (await this.#isOurs(own, attempt));
      if (!lane.reused) fresh.push({ lane, work: own, port: portOf(settings.masterPort, index) });
    }
    this.#trusted = true;
    if (fresh.length === 0) return;
    await Promise.all(fresh.map(({ lane }) => lane.drop()));
    ledger.enter('rendezvous');
    await this.#requireMemory(
      attempt,
      fresh.reduce((sum, { work: { staging } }) => sum + staging.peakBytes.device, 0),
    );
    const ids = fresh.flatMap(({ work: { members } }) => members.map(({ engine }) => engine.id));
    await this.#marks.set(ids);
    await attempt.journal.ask('join', ids);
    const timeoutMs = rendezvousMs(
      settings,
      fresh.flatMap(({ work: { members } }) => members),
    );
    const callOff = new AbortController();
    const stuck = new Set<string>();
    const meeting = fresh.length > 1 ? meetingOf(fresh.length) : null;
    const signal = AbortSignal.any([attempt.signal, callOff.signal]);
    setMaxListeners(0, signal);
    try {
      const opening = fresh.map(({ lane, work: { members, packing }, port }) =>
        lane.open({
          runtime: this.#runtime as NativeRuntime,
          device: settings.device,
          members,
          packing,
          masterAddress: settings.masterAddress,
          masterPort: port,
          timeoutMs,
          signal,
          together: meeting?.arrive,
          onSilent: ({ id }, { inNccl, cause }) => {
            if (ledger.is(id, 'serving-old'))
              ledger.set(id, 'unknown', 'it may be stuck in a group that was given up');
            if (!inNccl) return;
            stuck.add(id);
            ledger.fail(id, leftInJoin(id, cause));
          },
        }),
      );
      const stop = () => {
        meeting?.callOff(new Error('another group was given up'));
        callOff.abort();
      };
      signal.addEventListener('abort', stop, { once: true });
      await allOrFirstFailure(opening, stop);
    } catch (error) {
      if (timeoutMs < settings.timeouts.rendezvous && isTimeout(error)) ledger.note(SHORT_RENDEZVOUS);
      throw error;
    } finally {
      this.#stuck = [...stuck];
      await attempt.journal.joined(this.#stuck).catch(() => undefined);
    }
  }

  async #isOurs({ members }: LaneWork, { ledger }: Attempt): Promise<boolean> {
    if (await this.#marks.stand(members.map(({ engine }) => engine.id))) return true;
    ledger.note('another session has pushed to these engines since the last update: they join anew');
    return false;
  }

  async #requireMemory({ settings, signal }: Attempt, bytes: number): Promise<void> {
    const { device, timeouts } = settings;
    const asked = (this.#runtime as NativeRuntime).memory(device, timeouts.rendezvous);
    const { free } = await orLeave(asked, signal);
    if (free >= bytes) return;
    throw new WeightcastError(
      'WC_CUDA_OUT_OF_MEMORY',
      `the plan needs ${bytes} bytes of device memory for staging, and ${free} are free on device ${device}`,
    );
  }

  async #dropLanes(timeoutMs?: number): Promise<void> {
    const lanes = this.#lanes;
    this.#lanes = [];
    await Promise.all(lanes.map((lane) => lane.drop(timeoutMs)));
  }

  /**
   * Ends the groups; engines that have a teardown are told at the same time, since ranks wait for one another when they leave.
   *
   * @param alone runs what it is given, unless somebody else updates these engines now
   */
  async close(alone: (farewell: () => Promise<void>) => Promise<void>): Promise<void> {
    const groups = this.#lanes.flatMap(({ group }) => (group?.communicator.state === 'ready' ? [group] : []));
    if (groups.length === 0) return this.#dropLanes();
    let leaving: Promise<void> | null = null;
    await alone(async () => {
      leaving = this.#dropLanes();
      // Of a group that another session has replaced these engines know nothing; theirs is not ours to end.
      await Promise.all(
        groups.map(async (group) => {
          if (await this.#marks.stand(group.members.map(({ engine }) => engine.id))) await tellAll(group);
        }),
      );
    });
    await (leaving ?? this.#dropLanes());
  }
}

/** As it was said; else no longer than the engines themselves wait, which end rather than go on. */
export function rendezvousMs(
  { timeouts, isRendezvousSaid }: Pick<Settings, 'timeouts' | 'isRendezvousSaid'>,
  members: readonly { readonly engine: Pick<EngineLink, 'admin'> }[],
): number {
  if (isRendezvousSaid) return timeouts.rendezvous;
  const limits = members.flatMap(({ engine }) => engine.admin.capabilities.joinWithinMs ?? []);
  return Math.min(timeouts.rendezvous, ...limits);
}

const SHORT_RENDEZVOUS =
  'the rendezvous was given up before Dynamo workers end themselves (DYN_RL_INIT_WEIGHTS_TIMEOUT_S, 30 s): where they have more time, say so by --timeout-rendezvous';

function isTimeout(error: unknown): boolean {
  return hasCode(error, 'WC_RENDEZVOUS_TIMEOUT') || hasCode(error, 'WC_NCCL_TIMEOUT');
}

/** Each further group's store listens on the next port, so that a firewall can let them in. @throws WeightcastError WC_CONFIG_INVALID */
function portOf(masterPort: number, index: number): number {
  if (masterPort === 0 || masterPort + index <= 65_535) return masterPort === 0 ? 0 : masterPort + index;
  throw new WeightcastError(
    'WC_CONFIG_INVALID',
    `--master-port ${masterPort}: the engines speak ${index + 1} wire formats, and each takes the next port`,
  );
}

async function tellAll({ members }: Group): Promise<void> {
  await onAll(
    members.map(({ engine }) => engine),
    async (engine) => {
      const shutdown = engine.admin.shutdownBroadcaster();
      if (shutdown !== null) await engine.call(shutdown, { timeoutMs: SHUTDOWN_MS });
    },
  );
}

/** Files help where NCCL can't be used, not where the files themselves are bad. */
function filesMayHelp({ family, code }: WeightcastError): boolean {
  return family !== 'weights' && family !== 'config' && code !== 'WC_FILE_READ';
}

/** @throws WeightcastError WC_CONFIG_INVALID */
export function requireDevice(runtime: NativeRuntime, device: number): void {
  const found = runtime.devices();
  if (found.some(({ index }) => index === device)) return;
  throw new WeightcastError(
    'WC_CONFIG_INVALID',
    `device ${device} does not exist: there are ${found.length}, counted from 0`,
    {
      remedy: 'Pass another --device; CUDA_VISIBLE_DEVICES decides which ones are there.',
    },
  );
}
