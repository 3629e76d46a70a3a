/** The NCCL side of a session: the runtime, the group that stands between updates, and what it stages before a pause. */

import { dirname } from 'node:path';
import type { WeightsUpdate } from '../engines/admin.js';
import { encodeAhead, jsonSteps } from '../engines/json-body.js';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { onAll } from '../fleet/engine.js';
import type { NativeRuntime } from '../native.js';
import { type Group, type GroupMember, groupStands, openGroup } from '../transports/nccl/group.js';
import { openRuntime } from '../transports/nccl/runtime.js';
import { stagingFor } from '../transports/nccl/wire/memory.js';
import { planSteps, type WirePlan } from '../transports/nccl/wire/plan.js';
import { flattenSteps } from '../weights/flatten.js';
import { orderSteps } from '../weights/order.js';
import { requireUnchanged } from '../weights/unchanged.js';
import { runInSlices } from '../weights/yielding.js';
import type { Attempt, Carrier } from './attempt.js';
import type { GroupMarks } from './claim/group-marks.js';
import { filesystemCarrier } from './transfer-files.js';
import { ncclCarrier } from './transfer-nccl.js';
import type { UpdateReport } from './types.js';

/** Device staging for small frames; a frame that is larger gets a slot of its size. */
const SLOT_BYTES = 64 * 1024 * 1024;

/** Milliseconds that an engine gets to let go of its communicator. */
const SHUTDOWN_MS = 5_000;

export class NcclSender {
  readonly #marks: GroupMarks;
  #runtime: NativeRuntime | null = null;
  #group: Group | null = null;
  /** The list that every engine of the group has accepted. */
  #accepted: Buffer | null = null;
  #reused = false;
  #trusted = true;
  memory: UpdateReport['memory'] = null;

  constructor(marks: GroupMarks) {
    this.#marks = marks;
  }

  get emulated(): boolean {
    return this.#runtime?.emulated ?? false;
  }

  describe(): UpdateReport['nccl'] {
    if (this.#runtime === null || this.#group === null) return null;
    const { ncclVersion, ncclLibrary } = this.#runtime;
    return {
      version: ncclVersion,
      library: ncclLibrary,
      worldSize: this.#group.worldSize,
      reused: this.#reused,
    };
  }

  /** The next update builds a new group. */
  distrust(): void {
    this.#trusted = false;
  }

  /**
   * Everything that can be done before the pause: plan, libraries, memory, rendezvous, first frames staged. Falls back to files, where that is
   * allowed, when NCCL can't be used.
   */
  async prepare(attempt: Attempt): Promise<Carrier> {
    const { ledger, settings, checkpoint, signal } = attempt;
    const order = await runInSlices(orderSteps(checkpoint.tensors), signal);
    const plan = await runInSlices(planSteps('vllm', order, settings.packing), signal);
    try {
      requireWeightTransfer(attempt);
      return await this.#stage(attempt, plan);
    } catch (error) {
      await this.#dropGroup();
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
      ledger.note(`NCCL can't be used (${cause.code}: ${why}): falling back to files`);
      return filesystemCarrier(checkpoint.path);
    }
  }

  async #stage(attempt: Attempt, plan: WirePlan): Promise<Carrier> {
    const { ledger, settings, checkpoint, signal } = attempt;
    this.#runtime ??= await openRuntime(settings);
    requireDevice(this.#runtime, settings.device);
    const staging = stagingFor(plan, { slotBytes: Math.min(SLOT_BYTES, plan.byteLength) });
    this.memory = { device: staging.peakBytes.device, pinned: staging.peakBytes.pinned };
    const group = await this.#joinGroup(attempt, staging.peakBytes.device);
    ledger.enter('stage');
    signal.throwIfAborted();
    const update: WeightsUpdate = {
      tensors: plan.tensors,
      packing: group.packing,
      weightVersion: attempt.version,
      directory: checkpoint.path ?? dirname(checkpoint.files[0]?.path ?? ''),
    };
    for (const { admin } of group.members.map(({ engine }) => engine)) {
      await encodeAhead(admin.updateWeights(update).body, signal);
    }
    const list = await runInSlices(jsonSteps(update), signal);
    const native = await runInSlices(flattenSteps(plan.frames, checkpoint.files, staging), signal);
    const transfer = await group.communicator.prepare(native, settings.timeouts.update);
    try {
      // The files are open now, and each read will see whether somebody wrote to them; this sees what was written before.
      await requireUnchanged(checkpoint.files, { mayBeGone: true });
    } catch (error) {
      await transfer.close().catch(() => undefined);
      throw error;
    }
    return ncclCarrier({
      group,
      transfer,
      update,
      totalBytes: plan.byteLength,
      frames: plan.frames.length,
      // Where an engine does not say when it was started, it may be another process than the one that accepted the list.
      accepted:
        this.#accepted?.equals(list) === true &&
        group.members.every(({ processStart }) => processStart !== null),
      onAccepted: () => {
        this.#accepted = list;
      },
    });
  }

  /** The standing group if it still fits the engines as they are now, else a fresh rendezvous. */
  async #joinGroup(attempt: Attempt, deviceBytes: number): Promise<Group> {
    const { ledger, engines, facts, settings } = attempt;
    const runtime = this.#runtime as NativeRuntime;
    const members = engines.map((engine): GroupMember => {
      const known = facts.get(engine.id);
      if (known === undefined) throw new Error(`no facts of ${engine.id}`);
      return { engine, workers: known.workers, processStart: known.processStart };
    });
    const suspect = ledger.in('quarantined').length > 0;
    const ids = engines.map(({ id }) => id);
    if (
      this.#group !== null &&
      this.#trusted &&
      !suspect &&
      (await groupStands(this.#group, members, settings.packing))
    ) {
      if (await this.#marks.stand(ids)) {
        this.#reused = true;
        return this.#group;
      }
      ledger.note('another session has pushed to these engines since the last update: they join anew');
    }
    await this.#dropGroup();
    ledger.enter('rendezvous');
    const memory = await runtime.memory(settings.device, settings.timeouts.rendezvous);
    if (memory.free < deviceBytes) {
      throw new WeightcastError(
        'WC_CUDA_OUT_OF_MEMORY',
        `the plan needs ${deviceBytes} bytes of device memory for staging, and ${memory.free} are free on device ${settings.device}`,
      );
    }
    this.#reused = false;
    this.#trusted = true;
    await this.#marks.set(ids);
    await attempt.journal.ask('join', ids);
    try {
      this.#group = await this.#open(attempt, members);
    } finally {
      await attempt.journal.joined().catch(() => undefined);
    }
    return this.#group;
  }

  #open({ settings, signal, ledger }: Attempt, members: readonly GroupMember[]): Promise<Group> {
    return openGroup({
      runtime: this.#runtime as NativeRuntime,
      device: settings.device,
      members,
      packing: settings.packing,
      masterAddress: settings.masterAddress,
      masterPort: settings.masterPort,
      timeoutMs: settings.timeouts.rendezvous,
      signal,
      onSilent: ({ id }) => {
        if (ledger.is(id, 'serving-old'))
          ledger.set(id, 'unknown', 'it may be stuck in a group that was given up');
      },
    });
  }

  async #dropGroup(): Promise<void> {
    const group = this.#group;
    this.#group = null;
    this.#accepted = null;
    await group?.close().catch(() => undefined);
  }

  /**
   * Ends the group; engines that have a teardown are told at the same time, since ranks wait for one another when they leave.
   *
   * @param alone runs what it is given, unless somebody else updates these engines now
   */
  async close(alone: (farewell: () => Promise<void>) => Promise<void>): Promise<void> {
    const group = this.#group;
    if (group?.communicator.state !== 'ready') return this.#dropGroup();
    let leaving: Promise<void> | null = null;
    await alone(async () => {
      leaving = this.#dropGroup();
      // Of a group that another session has replaced these engines know nothing; theirs is not ours to end.
      if (await this.#marks.stand(group.members.map(({ engine }) => engine.id))) await tellAll(group);
    });
    await (leaving ?? this.#dropGroup());
  }
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

function requireWeightTransfer({ engines }: Attempt): void {
  const unable = engines.find((engine) => engine.admin.capabilities.wire === null);
  if (unable === undefined) return;
  throw new WeightcastError(
    'WC_ENGINE_NOT_CONFIGURED',
    `vLLM ${unable.admin.version} lists no weight-transfer routes`,
    {
      engine: unable.id,
      phase: 'preflight',
      remedy: 'Start it with VLLM_SERVER_DEV_MODE=1, or use --transport filesystem.',
    },
  );
}

/** Files help where NCCL can't be used, not where the files themselves are bad. */
function filesMayHelp({ family, code }: WeightcastError): boolean {
  return family !== 'weights' && family !== 'config' && code !== 'WC_FILE_READ';
}

function requireDevice(runtime: NativeRuntime, device: number): void {
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
