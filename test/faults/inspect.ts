/** Asks one engine what it is, behind its proxy: the truth that a coordinator's claims are held against. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineState, ReferenceEngine } from '../../src/testing/index.js';
import { inVllmsNames } from './dialect.js';
import type { EngineFacts, Held } from './facts.js';
import type { Gate } from './gate.js';
import type { EngineSpec, Pool } from './pool.js';

/** Milliseconds that a core may be busy; a join whose root is gone takes one second of them. */
const SETTLE_MS = 4_000;
const POLL_MS = 5;
const CALL_MS = 20_000;

export interface Subject {
  readonly engine: ReferenceEngine;
  readonly spec: EngineSpec;
  readonly gate: Gate;
  readonly replaced: EngineFacts['replaced'];
  /** Exchanges of its record that belong to earlier pushes. */
  readonly recorded: number;
}

export async function inspect(pool: Pool, subject: Subject): Promise<EngineFacts> {
  const { engine, spec, gate, replaced } = subject;
  const settled = await settle(pool, engine, gate);
  const record = (await within(engine.exchanges(), CALL_MS)) ?? [];
  const base = {
    url: gate.url,
    replaced,
    record: record
      .slice(subject.recorded)
      .map((exchange) => inVllmsNames(spec.backend, spec.transport, exchange)),
    sent: new Map(gate.sent),
  };
  if (settled === null || settled.state.dead) {
    return { ...base, alive: false, state: null, stuck: false, holds: null, answersBy: null };
  }
  const { state, stuck } = settled;
  if (stuck) return { ...base, alive: true, state, stuck, holds: null, answersBy: null };
  const digests = await within(engine.digests(), CALL_MS);
  const holds: Held | null = digests === null ? null : ((await pool.versionOf(spec, digests)) ?? 'mixed');
  // One that is broken would die of a request; that it is not paused says enough.
  if (state.paused !== null || state.broken)
    return { ...base, alive: true, state, stuck, holds, answersBy: null };
  const answer = await pool.answerOf(spec, engine);
  const answersBy: Held | null =
    answer === null ? null : ((await pool.versionThatAnswers(spec, answer)) ?? 'mixed');
  return { ...base, alive: true, state, stuck, holds, answersBy };
}

/** Waits until it has answered everything; null when its process is gone. */
async function settle(
  pool: Pool,
  engine: ReferenceEngine,
  gate: Gate,
): Promise<{ readonly state: EngineState; readonly stuck: boolean } | null> {
  const deadline = performance.now() + SETTLE_MS;
  for (;;) {
    const state = await within(pool.stateOf(engine), CALL_MS);
    if (state === null) return null;
    const idle = gate.atEngine === 0 && state.pending === 0;
    if (idle || state.dead) return { state, stuck: false };
    if (performance.now() > deadline) return { state, stuck: state.pending > 0 };
    await sleep(POLL_MS);
  }
}

/** null when it takes too long, or fails. */
export async function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  return Promise.race([promise.catch(() => null), sleep(ms, null, { ref: false })]);
}
