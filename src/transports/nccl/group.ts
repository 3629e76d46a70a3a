/**
 * One communicator with the workers of several engines: rank 0 is this process.
 *
 * The order is the one that is safe with real servers (contracts: vLLM §5): the store listens, every engine is told to join, the unique
 * id is published when all have come, then all ranks enter ncclCommInitRank, then the one warm-up all-reduce that vLLM's
 * PyNcclCommunicator makes. Whatever fails on the way ends the rest.
 */
import { setMaxListeners } from 'node:events';
import type { GroupSeat, Packing } from '../../engines/admin.js';
import { asWeightcastError, hasCode, WeightcastError } from '../../errors.js';
import type { EngineLink } from '../../fleet/engine.js';
import { planRanks, type RankSeat } from '../../fleet/ranks.js';
import type { NativeCommunicator, NativeRuntime } from '../../native.js';
import { orLeave } from '../../waits.js';
import { localAddressTowards, openRendezvous } from './rendezvous/index.js';

export interface GroupMember {
  readonly engine: EngineLink;
  readonly workers: number;
  /** Unix seconds, as at the rendezvous: another value later means that the engine was restarted. */
  readonly processStart: number | null;
}

export interface GroupOptions {
  readonly runtime: NativeRuntime;
  readonly device: number;
  readonly members: readonly GroupMember[];
  readonly packing: Packing | null;
  /** null: the local address towards the first engine. */
  readonly masterAddress: string | null;
  readonly masterPort: number;
  /** Milliseconds until every worker has joined and the communicator is ready. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Where several groups are built at the same time: resolves when the workers of all of them have come, and rejects when one is given up. */
  readonly together?: (() => Promise<void>) | undefined;
  /** Told of each engine that has not said, when the group is given up, that it has left it. */
  readonly onSilent: (engine: EngineLink, silence: JoinSilence) => void;
}

export interface JoinSilence {
  /** Its workers had the unique id: they wait in NCCL, which does not let go of them. Else they were at most at the store, which has. */
  readonly inNccl: boolean;
  readonly cause: unknown;
}

/** After a failure: so long engines get to say that they have left. Most do at once, as the store drops their workers. */
const LEAVE_MS = 2_000;
/** And at most so long after the deadline: a call returns within a second of its deadline. */
const LEAVE_LATE_MS = 800;

/** A group whose state NCCL does not tell at once does not stand. */
const STANDS_MS = 2_000;

export interface Group {
  readonly communicator: NativeCommunicator;
  readonly members: readonly GroupMember[];
  readonly packing: Packing | null;
  readonly worldSize: number;
  /** Ends the communicator: destroys it when nothing is unfinished, in so many milliseconds (default 10 s), else aborts. Safe to call twice. */
  close(timeoutMs?: number): Promise<void>;
}

/**
 * Builds the group, within the deadline.
 *
 * @throws WeightcastError WC_RENDEZVOUS_TIMEOUT, WC_RENDEZVOUS_ADDRESS, WC_NCCL_TIMEOUT, WC_NCCL_FAILED, and what an engine answers
 */
export async function openGroup(options: GroupOptions): Promise<Group> {
  const { runtime, members, packing } = options;
  const plan = planRanks(members.map((member) => ({ engine: member.engine.id, workers: member.workers })));
  const deadline = performance.now() + options.timeoutMs;
  const left = () => Math.max(1, deadline - performance.now());

  const failure = new AbortController();
  setMaxListeners(0, failure.signal);
  options.signal?.throwIfAborted();

  // With several engines the store's roll call keeps anyone from entering ncclCommInitRank, which never times out, while another refuses: also one of
  // another group, since this one is given up with it.
  const usesStore =
    options.together !== undefined ||
    members.length > 1 ||
    members.some((member) => member.engine.admin.capabilities.uniqueId === 'store');
  const first = members[0];
  if (first === undefined) throw new RangeError('a group needs at least one engine');
  const masterAddress = options.masterAddress ?? (await localAddressTowards(first.engine.url));
  let made: Promise<Uint8Array> | null = null;
  const uniqueId = (): Promise<Uint8Array> => {
    made ??= (options.together?.() ?? Promise.resolve()).then(() =>
      orLeave(runtime.uniqueId(left()), options.signal),
    );
    return made;
  };
  // Engines that take it in the request get it at once; the others once all have come.
  const posted = usesStore ? null : await uniqueId();
  const communicator = await orLeave(runtime.communicator(options.device, left()), options.signal, (late) =>
    late.abort(),
  );
  const expected = plan.seats.flatMap((seat) => ranksOf(seat));
  let leaving: NodeJS.Timeout | undefined;
  let callOff = (): void => undefined;
  try {
    await using store = usesStore
      ? await openRendezvous({
          host: masterAddress,
          port: options.masterPort,
          uniqueId,
          expected,
          timeoutMs: left(),
        })
      : null;
    callOff = () => {
      if (leaving !== undefined) return;
      leaving = setTimeout(() => failure.abort(), Math.min(LEAVE_MS, left() + LEAVE_LATE_MS));
      store?.abort();
      void communicator.abort().catch(() => undefined);
    };
    options.signal?.addEventListener('abort', callOff, { once: true });
    options.signal?.throwIfAborted();

    // All of them before the first is sent: a backend that can't seat its engine says so while nobody waits for it.
    const invitations = members.map(({ engine }, index) => ({
      engine,
      exchange: engine.admin.initBroadcaster(groupSeat(plan.seats[index] as RankSeat)),
    }));
    const posts = invitations.map(async ({ engine, exchange }) => {
      try {
        await engine.call(exchange, {
          signal: failure.signal,
          // Rank 0 gives up first; an engine then gets so long to say that it has left.
          timeoutMs: left() + LEAVE_LATE_MS,
        });
      } catch (error) {
        if (mayHaveJoined(error))
          options.onSilent(engine, { inNccl: store?.published ?? true, cause: error });
        // Its limit lies behind rank 0's own, which also ends by then: if rank 0 does not get into the group, that is why.
        if (hasCode(error, 'WC_ENGINE_TIMEOUT')) await joined.catch(() => undefined);
        throw asWeightcastError(error, 'WC_ENGINE_UNREACHABLE', { engine: engine.id, phase: 'rendezvous' });
      }
    });
    const joined = (async () => {
      await store?.complete();
      const id = await uniqueId();
      await communicator.init({ uniqueId: id, worldSize: plan.worldSize, rank: 0, timeoutMs: left() });
      await communicator.allReduce(new Float32Array([0]), left());
    })();
    await allOrFirstFailure([...posts, joined], callOff);

    function groupSeat(seat: RankSeat): GroupSeat {
      return {
        rankOffset: seat.rankOffset,
        worldSize: plan.worldSize,
        fleet: plan.seats.map(({ workers }) => workers),
        masterAddress,
        masterPort: store?.port ?? 0,
        uniqueId: posted,
        packing,
        timeoutMs: options.timeoutMs,
      };
    }
  } catch (error) {
    await communicator.abort().catch(() => undefined);
    if (options.signal?.aborted) {
      throw new WeightcastError('WC_UPDATE_ABORTED', 'interrupted while the engines joined the group', {
        phase: 'rendezvous',
        cause: error,
      });
    }
    throw asWeightcastError(error, 'WC_NCCL_FAILED', { phase: 'rendezvous' });
  } finally {
    clearTimeout(leaving);
    options.signal?.removeEventListener('abort', callOff);
  }
  return {
    communicator,
    members,
    packing,
    worldSize: plan.worldSize,
    close: (timeoutMs = 10_000) => communicator.destroy(timeoutMs),
  };
}

/** It was asked, and has answered nothing. */
function mayHaveJoined(error: unknown): boolean {
  const details = error instanceof WeightcastError ? error.details : {};
  return details.sent !== false && typeof details.status !== 'number';
}

function ranksOf(seat: RankSeat): { rank: number; engine: string }[] {
  return Array.from({ length: seat.workers }, (_, index) => ({
    rank: seat.rankOffset + index,
    engine: seat.engine,
  }));
}

/** Waits for all; at the first failure runs `stop` once, waits for the rest, and throws that first failure. */
export async function allOrFirstFailure(work: readonly Promise<unknown>[], stop: () => void): Promise<void> {
  let first: { readonly error: unknown } | null = null;
  await Promise.all(
    work.map((promise) =>
      promise.catch((error: unknown) => {
        if (first !== null) return;
        first = { error };
        stop();
      }),
    ),
  );
  if (first !== null) throw (first as { readonly error: unknown }).error;
}

/** True when the group can carry another update to exactly these engines. */
export async function groupStands(
  group: Group,
  members: readonly GroupMember[],
  packing: Packing | null,
): Promise<boolean> {
  if (group.communicator.state !== 'ready') return false;
  if (JSON.stringify(group.packing) !== JSON.stringify(packing)) return false;
  if (group.members.length !== members.length) return false;
  const same = group.members.every((member, index) => {
    const now = members[index];
    return (
      now !== undefined &&
      now.engine.id === member.engine.id &&
      now.workers === member.workers &&
      now.processStart === member.processStart
    );
  });
  return same && (await group.communicator.asyncError(STANDS_MS).catch(() => 1)) === 0;
}
