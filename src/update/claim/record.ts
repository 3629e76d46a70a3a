/**
 * The file of one push: a claim while its holder lives, a journal when it has died. JSON lines: who holds which engines, then what it was about to ask of
 * them, each line written before the request. Never a secret: of headers only their names.
 */
import { z } from 'zod';
import { holderSchema } from '../../holder.js';
import type { EngineState } from '../types.js';

export const MAX_TEXT = 4096;
const text = z.string().max(MAX_TEXT);
/** A fleet that has more is not claimed: nobody could read its record. */
export const MAX_ENGINES = 4096;
const engineIndexes = z
  .array(
    z
      .number()
      .int()
      .min(0)
      .max(MAX_ENGINES - 1),
  )
  .max(MAX_ENGINES);
const STATES = [
  'unknown',
  'serving-old',
  'paused',
  'receiving',
  'received',
  'verified',
  'serving-new',
  'quarantined',
] as const satisfies readonly EngineState[];

const pushSchema = z.object({
  weights: text.nullable(),
  version: text.nullable(),
  /** Which files the weights were; see weights/identity.ts. */
  identity: text.optional(),
  fallback: z.enum(['filesystem', 'none']),
  recover: text.nullable(),
  verify: z.enum(['auto', 'digest', 'fingerprint', 'none']),
  headerNames: z.array(text).max(4096),
});

const headSchema = z.object({
  weightcast: z.literal(1),
  id: z.string().regex(/^[0-9a-f-]{1,64}$/),
  /** 'orchestrate' follows a trainer, and holds its engines between two versions too; 'guardian' and 'recover' clean up after a push that died. */
  role: z.enum(['push', 'orchestrate', 'guardian', 'recover']),
  holder: holderSchema,
  /** Unix milliseconds. */
  since: z.number().int().min(0).max(8.64e15),
  engines: z.array(z.object({ key: text, url: text })).max(MAX_ENGINES),
  push: pushSchema,
});

const eventSchema = z.discriminatedUnion('event', [
  /** It found no other claim on its engines. */
  z.object({ event: z.literal('held') }),
  /** It goes on with what a push that died had begun. */
  z.object({ event: z.literal('inherits'), push: pushSchema }),
  /** Unix seconds at which the engines' processes started, by index. */
  z.object({ event: z.literal('started'), at: z.record(z.string(), z.number()) }),
  /** About to be asked of these engines: join a group · pause · open an update session and receive · load a directory. */
  z.object({
    event: z.literal('ask'),
    what: z.enum(['join', 'pause', 'receive', 'load']),
    engines: engineIndexes,
    directory: text.optional(),
  }),
  /** All ranks have met, or nobody waits for the others any more, except in these engines. */
  z.object({ event: z.literal('joined'), except: engineIndexes.optional() }),
  /** What engines are known to be, by index. */
  z.object({ event: z.literal('state'), states: z.record(z.string(), z.enum(STATES)) }),
  /** Its holder has ended and leaves engines that need help. */
  z.object({ event: z.literal('left'), reasons: z.record(z.string(), text).optional() }),
  /** Another one holds its engines now. */
  z.object({ event: z.literal('superseded'), by: text }),
  /** Another one knows more of these engines. */
  z.object({ event: z.literal('settled'), engines: engineIndexes }),
]);

export type RecordHead = z.output<typeof headSchema>;
export type RecordEvent = z.output<typeof eventSchema>;
export type PushFacts = RecordHead['push'];

/** One engine of a record, as far as its holder wrote. */
export interface RecordedEngine {
  readonly key: string;
  readonly url: string;
  readonly state: EngineState;
  /** Unix seconds; null where the engine does not say. */
  readonly processStart: number | null;
  readonly reason: string | null;
  /** Its workers may wait in ncclCommInitRank for ranks that never come. */
  readonly joining: boolean;
  /** Others know more of it now. */
  readonly settled: boolean;
}

export interface PushRecord {
  readonly head: RecordHead;
  readonly engines: readonly RecordedEngine[];
  readonly held: boolean;
  readonly left: boolean;
  readonly superseded: boolean;
}

/** Far more than the longest push writes: each takes some microseconds, and a damaged one concerns every engine. */
const MAX_EVENTS = 20_000;

/** Reads a record; null when it is none. What can't be read inside one counts as an open session of every engine: nothing is known then. */
export function parseRecord(content: string): PushRecord | null {
  const lines = content.split('\n');
  // Without its newline a line was being written when its holder died: what it announces has not been asked.
  lines.pop();
  const head = headSchema.safeParse(json(lines[0] ?? ''));
  if (!head.success) return null;
  const engines = head.data.engines.map(
    ({ key, url }): Mutable<RecordedEngine> & { loads: string | null } => ({
      key,
      url,
      state: 'unknown',
      processStart: null,
      reason: null,
      joining: false,
      settled: false,
      loads: null,
    }),
  );
  let { push } = head.data;
  const flags = { held: false, left: false, superseded: false };
  const damage = () => {
    for (const engine of engines)
      Object.assign(engine, { state: 'receiving', reason: 'its record is damaged' });
  };
  let damaged = false;
  for (const line of lines.slice(1, 1 + MAX_EVENTS)) {
    if (line === '') continue;
    const event = eventSchema.safeParse(json(line));
    if (event.success && event.data.event === 'inherits') push = event.data.push;
    else if (event.success) apply(event.data, engines, flags);
    else if (!damaged) damage();
    damaged = !event.success;
  }
  if (lines.length > 1 + MAX_EVENTS) damage();
  return {
    head: { ...head.data, push },
    engines: engines.map(({ loads, ...engine }) => {
      // Bytes of another directory than the one that was pushed: not the new version.
      const other = loads !== null && loads !== push.weights && WHOLE.includes(engine.state);
      return other ? { ...engine, state: 'receiving' } : engine;
    }),
    ...flags,
  };
}

/** Whether others will be able to read a record that begins so. */
export function isReadable(head: RecordHead): boolean {
  return headSchema.safeParse(head).success;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const WHOLE: readonly EngineState[] = ['received', 'verified'];

function apply(
  event: RecordEvent,
  engines: (Mutable<RecordedEngine> & { loads: string | null })[],
  flags: Mutable<Pick<PushRecord, 'held' | 'left' | 'superseded'>>,
): void {
  const some = (indexes: readonly number[]) => indexes.flatMap((index) => engines[index] ?? []);
  switch (event.event) {
    case 'held':
    case 'left':
    case 'superseded':
      flags[event.event] = true;
      if (event.event !== 'left') return;
      for (const [index, reason] of Object.entries(event.reasons ?? {})) {
        for (const engine of some([Number(index)])) engine.reason = reason;
      }
      return;
    case 'started':
      for (const [index, at] of Object.entries(event.at)) {
        for (const engine of some([Number(index)])) engine.processStart = at;
      }
      return;
    case 'ask':
      for (const engine of some(event.engines)) {
        if (event.what === 'join') {
          engine.joining = true;
          continue;
        }
        if (event.what !== 'pause') engine.state = 'receiving';
        else if (engine.state === 'serving-old' || engine.state === 'unknown') engine.state = 'paused';
        else if (engine.state === 'serving-new') engine.state = 'receiving';
        engine.loads = event.what === 'load' ? (event.directory ?? '') : null;
      }
      return;
    case 'joined':
      for (const [index, engine] of engines.entries())
        engine.joining = event.except?.includes(index) === true;
      return;
    case 'state':
      for (const [index, state] of Object.entries(event.states)) {
        // What was asked of it was never answered, and may come late: untouched, and perhaps paused.
        for (const engine of some([Number(index)])) engine.state = state === 'unknown' ? 'paused' : state;
      }
      return;
    case 'inherits':
      return;
    case 'settled':
      for (const engine of some(event.engines)) engine.settled = true;
  }
}

const AT_PEACE: readonly EngineState[] = ['unknown', 'serving-old', 'serving-new'];

/** True for an engine that may be paused, or hold neither version, and of which nobody knows more. */
export function inDoubt(engine: RecordedEngine): boolean {
  return !engine.settled && (engine.joining || !AT_PEACE.includes(engine.state));
}

function json(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    return undefined;
  }
}

/** 'the push of /ckpt/step_7 by process 4711 on host a, begun 2026-11-21T14:00:00Z' */
export function describeRecord({ role, holder, since, push }: RecordHead): string {
  const pushing = push.weights === null ? 'a session that closes' : `the push of ${push.weights}`;
  const what = {
    push: pushing,
    orchestrate: 'weightcast orchestrate',
    guardian: `the guardian of ${pushing}`,
    recover: 'weightcast recover',
  }[role];
  return `${what} by process ${holder.pid} on host ${holder.host}, begun ${new Date(since).toISOString()}`;
}
