/**
 * The claim of one push on its engines: all of them or none. Every push puts a file of its own into the state directory and then looks at all others: of two that
 * begin at once at least one sees the other, so no lock is ever taken from a living holder, and the file of a dead one, whose name nobody uses again, may be
 * removed by anybody. There is no order of locks in which two overlapping fleets could wait for each other.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { WeightcastError } from '../../errors.js';
import { type Holder, thisProcess } from '../../holder.js';
import { withinTime } from './filesystem.js';
import { engineKey } from './identity.js';
import { RecordFile } from './journal.js';
import {
  describeRecord,
  inDoubt,
  isReadable,
  MAX_ENGINES,
  MAX_TEXT,
  type PushFacts,
  type RecordEvent,
  type RecordHead,
} from './record.js';
import { type FoundRecord, readRecords, SILENT_MS } from './records.js';

export interface ClaimRequest {
  /** As {@link openStateDirectory} gives it. */
  readonly directory: string;
  /** URLs of the engines, as their ids. */
  readonly engines: readonly string[];
  readonly role: RecordHead['role'];
  readonly push: PushFacts;
  /** A record whose holder is known to be gone, whatever its process number says. */
  readonly successorOf?: string;
  /** Milliseconds to wait for those who clean up after a push that died; a push that lives is not waited for. */
  readonly patienceMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** The engines are this process's until it is released. */
export interface Claim {
  readonly record: RecordFile;
  /** Records of pushes that died, or gave up, and left something of these engines unsaid; the oldest first. */
  readonly found: readonly FoundRecord[];
  /** Removes the record, or leaves it for the next one where engines need help (with the reasons, by URL); says in older ones what is known now. */
  release(reasons?: ReadonlyMap<string, string>): Promise<void>;
}

/** Two that begin at once need moments to see which of them goes first. */
const CONTEND_MS = 10_000;

/** @throws WeightcastError WC_UPDATE_BUSY, which names the holder; WC_STATE_DIR; WC_CONFIG_INVALID for a fleet that no record can hold */
export async function claimEngines(request: ClaimRequest): Promise<Claim> {
  const { directory, engines, signal } = request;
  const me = await thisProcess();
  const head = headOf(request, me);
  if (!isReadable(head)) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      `${engines.length} engines can't be claimed: a fleet has at most ${MAX_ENGINES}, and URLs and paths have at most ${MAX_TEXT} characters`,
      { phase: 'preflight' },
    );
  }
  const keys = new Set(engines.map(engineKey));
  const began = performance.now();
  for (;;) {
    signal?.throwIfAborted();
    const record = await RecordFile.create(directory, head);
    try {
      const others = await aloneOrRefused(record, { request, me, keys, began });
      if (others !== null) return await take(record, others, keys);
      await record.close();
    } catch (error) {
      await record.close().catch(() => {});
      throw error;
    }
    await sleep(10 + Math.random() * 40, undefined, { signal });
  }
}

interface Contest {
  readonly request: ClaimRequest;
  readonly me: Holder;
  readonly keys: ReadonlySet<string>;
  /** By performance.now(). */
  readonly began: number;
}

/** All other records on these engines when none of them is live; null when it is better to stand back and begin again. */
async function aloneOrRefused(record: RecordFile, contest: Contest): Promise<FoundRecord[] | null> {
  const { request, me, keys, began } = contest;
  for (;;) {
    const now = await record.writtenAt();
    const all = await withinTime(readRecords(request.directory, { me, now }), request.directory);
    const others = all.filter(({ head }) => head.id !== record.head.id && overlaps(head, keys));
    const live = others.filter(({ live, head }) => live && head.id !== request.successorOf);
    const waited = performance.now() - began;
    const holder = live.find(({ held }) => held);
    if (holder !== undefined) {
      // A session that only says goodbye holds its engines for moments, as those do who put them right.
      const { role, push } = holder.head;
      const brief = cleansUp(role) || (role === 'push' && push.weights === null);
      const waits = !cleansUp(request.role) && brief;
      if (!waits || waited > request.patienceMs) throw busy(holder, keys);
      return null;
    }
    const [first] = live;
    if (first === undefined) return others;
    if (waited > CONTEND_MS) throw busy(first, keys);
    // Nobody is alone: the one that came first stays, the others stand back.
    if (live.some(({ head }) => head.id < record.head.id)) return null;
    await sleep(5, undefined, { signal: request.signal });
  }
}

async function take(
  record: RecordFile,
  others: readonly FoundRecord[],
  keys: ReadonlySet<string>,
): Promise<Claim> {
  await record.write({ event: 'held' });
  const found = await withinTime(succeed(record, others, keys), record.file);
  const settleAll = async () => {
    await record.flush();
    const known = record.engines().filter(({ state }) => state !== 'unknown');
    const keysKnown = new Set(known.map(({ key }) => key));
    await Promise.all(others.map((other) => settle(other, keysKnown)));
  };
  return {
    record,
    found,
    release: async (reasons) => {
      try {
        // Before the own record goes: nobody may come in between and believe the older ones.
        await withinTime(settleAll(), record.file);
      } finally {
        await record.close(reasons);
      }
    },
  };
}

/** Says in the others' records that they are over; those that leave something of these engines unsaid. */
async function succeed(
  record: RecordFile,
  others: readonly FoundRecord[],
  keys: ReadonlySet<string>,
): Promise<FoundRecord[]> {
  const found: FoundRecord[] = [];
  for (const other of others) {
    if (!other.engines.some(inDoubt)) await rm(other.file, { force: true }).catch(() => {});
    else {
      if (!other.left) await add(other.file, { event: 'superseded', by: record.head.id });
      if (other.engines.some((engine) => inDoubt(engine) && keys.has(engine.key))) found.push(other);
    }
  }
  return found;
}

/** Says in an older record of which engines more is known now; removes it when that is all that need help. */
async function settle({ file, engines }: FoundRecord, known: ReadonlySet<string>): Promise<void> {
  const settled = engines.flatMap(({ key }, index) => (known.has(key) ? [index] : []));
  if (settled.length === 0) return;
  if (engines.some((engine) => inDoubt(engine) && !known.has(engine.key))) {
    await add(file, { event: 'settled', engines: settled });
  } else await rm(file, { force: true }).catch(() => {});
}

/** To a record whose holder writes no more: a newline first, for a line that it left unfinished. */
async function add(file: string, event: RecordEvent): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW;
  const handle = await open(file, flags).catch(() => null);
  await handle?.appendFile(`\n${JSON.stringify(event)}\n`).catch(() => {});
  await handle?.close();
}

function headOf({ engines, role, push }: ClaimRequest, holder: Holder): RecordHead {
  const since = Date.now();
  return {
    weightcast: 1,
    // Names sort by time.
    id: `${since.toString(16).padStart(12, '0')}-${randomUUID()}`,
    role,
    holder,
    since,
    engines: engines.map((url) => ({ key: engineKey(url), url })),
    push,
  };
}

/** After a push that died. */
function cleansUp(role: RecordHead['role']): boolean {
  return role === 'guardian' || role === 'recover';
}

function overlaps(head: RecordHead, keys: ReadonlySet<string>): boolean {
  return head.engines.some(({ key }) => keys.has(key));
}

function busy(record: FoundRecord, keys: ReadonlySet<string>): WeightcastError {
  const { head, file } = record;
  const shared = head.engines.filter(({ key }) => keys.has(key));
  const engine = shared[0]?.url;
  const more = shared.length > 1 ? ` and ${shared.length - 1} more` : '';
  const { holder, since, role } = head;
  return new WeightcastError('WC_UPDATE_BUSY', `${engine}${more} is held by ${describeRecord(head)}`, {
    engine,
    phase: 'preflight',
    details: { pid: holder.pid, host: holder.host, since: new Date(since).toISOString(), role, file },
    remedy: remedyFor(record),
  });
}

function remedyFor({ head: { role, holder }, life, silentMs }: FoundRecord): string {
  if (cleansUp(role)) return 'It is putting the engines right: try again in a moment.';
  if (life === 'alive')
    return `Wait until it ends, or end it (kill ${holder.pid} on ${holder.host}) and try again.`;
  // Its number may be another process's by now.
  const [silent, end] = [silentMs, SILENT_MS].map((ms) => Math.round(ms / 1000));
  return `Wait until it ends. If it is gone, its claim ends ${end} s after its last sign of life, which was ${silent} s ago.`;
}
