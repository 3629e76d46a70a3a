/** What each engine did in one update, and when. The report is read from here and nowhere else. */

import { reportError } from './error.js';
import type { EngineReport, EngineState, Phase, ProofReport, TransportName, UpdateEvent } from './types.js';

export interface LedgerEngine {
  readonly id: string;
  readonly url: string;
  readonly backend: string;
}

interface Account {
  readonly engine: LedgerEngine;
  engineVersion: string | null;
  workers: number | null;
  state: EngineState;
  readonly history: { readonly state: EngineState; readonly atMs: number; readonly reason: string | null }[];
  pauseAtMs: number | null;
  resumeAtMs: number | null;
  transport: TransportName | null;
  weightVersion: string | null;
  proof: ProofReport | null;
  error: unknown;
  /** Milliseconds since the update began; null without an error. */
  errorAtMs: number | null;
}

const UNTOUCHED: readonly EngineState[] = ['serving-old', 'paused'];

/** Accounts of one update's engines; every change is an event. */
export class Ledger {
  readonly #accounts = new Map<string, Account>();
  readonly #began = performance.now();
  readonly #phases: { phase: Phase; ms: number }[] = [];
  readonly #emit: (event: UpdateEvent) => void;
  readonly #noted = new Set<string>();
  /** Quarantined with the new version, and perhaps serving it: their resume was not confirmed. */
  readonly mayServeNew = new Set<string>();
  /** A request to open an update session may still reach them. */
  readonly mayStillStart = new Set<string>();
  /** So may a request to receive, which found no answer. */
  readonly mayStillReceive = new Set<string>();
  #phase: { readonly phase: Phase; readonly atMs: number } | null = null;

  constructor(engines: readonly LedgerEngine[], emit: (event: UpdateEvent) => void) {
    this.#emit = emit;
    for (const engine of engines) {
      this.#accounts.set(engine.id, {
        engine,
        engineVersion: null,
        workers: null,
        state: 'unknown',
        history: [],
        pauseAtMs: null,
        resumeAtMs: null,
        transport: null,
        weightVersion: null,
        proof: null,
        error: null,
        errorAtMs: null,
      });
    }
  }

  #now(): number {
    return performance.now() - this.#began;
  }

  #account(id: string): Account {
    const account = this.#accounts.get(id);
    if (account === undefined) throw new Error(`no account for engine ${id}`);
    return account;
  }

  /** Each once, in order. */
  get notes(): string[] {
    return [...this.#noted];
  }

  get phase(): Phase | null {
    return this.#phase?.phase ?? null;
  }

  /** Begins a phase; the one before it ends. */
  enter(phase: Phase): void {
    this.#leave();
    this.#phase = { phase, atMs: this.#now() };
    this.#emit({ kind: 'phase', phase });
  }

  #leave(): void {
    if (this.#phase === null) return;
    this.#phases.push({ phase: this.#phase.phase, ms: this.#now() - this.#phase.atMs });
    this.#phase = null;
  }

  note(text: string): void {
    if (this.#noted.has(text)) return;
    this.#noted.add(text);
    this.#emit({ kind: 'note', text });
  }

  state(id: string): EngineState {
    return this.#account(id).state;
  }

  /** True when it was quarantined at any time of this update. */
  wasQuarantined(id: string): boolean {
    return this.#account(id).history.some(({ state }) => state === 'quarantined');
  }

  /** True when nothing of this update has reached its weights: it holds what it held before. */
  isUntouched(id: string): boolean {
    const { state, history } = this.#account(id);
    // Asked nothing, or not heard of again after it was.
    if (state === 'unknown') return history.length === 0;
    return state === 'serving-old' && history.every((step) => UNTOUCHED.includes(step.state));
  }

  /** Why its state is what it is, for those of which a reason was given. */
  reasons(): Map<string, string> {
    const last = [...this.#accounts].map(
      ([id, { history }]) => [id, history.at(-1)?.reason ?? null] as const,
    );
    return new Map(last.flatMap(([id, reason]) => (reason === null ? [] : [[id, reason] as const])));
  }

  is(id: string, ...states: readonly EngineState[]): boolean {
    return states.includes(this.#account(id).state);
  }

  set(id: string, state: EngineState, reason: string | null = null): void {
    const account = this.#account(id);
    if (account.state === state) return;
    account.state = state;
    account.history.push({ state, atMs: this.#now(), reason });
    this.#emit({ kind: 'engine', engine: id, state, reason });
  }

  /** Quarantines with its cause; an engine keeps its first cause. */
  quarantine(
    id: string,
    error: unknown,
    reason = error instanceof Error ? error.message : String(error),
  ): void {
    this.fail(id, error);
    this.set(id, 'quarantined', reason);
  }

  fail(id: string, error: unknown): void {
    const account = this.#account(id);
    account.error ??= error;
    account.errorAtMs ??= this.#now();
  }

  healed(id: string): void {
    const account = this.#account(id);
    account.error = null;
    account.errorAtMs = null;
  }

  /** It serves an older version again: nothing of the new one is true of it. */
  reverted(id: string): void {
    const account = this.#account(id);
    account.proof = null;
    account.transport = null;
  }

  identify(id: string, facts: { readonly engineVersion?: string; readonly workers?: number }): void {
    const account = this.#account(id);
    account.engineVersion = facts.engineVersion ?? account.engineVersion;
    account.workers = facts.workers ?? account.workers;
  }

  pauseRequested(id: string): void {
    const account = this.#account(id);
    account.pauseAtMs ??= this.#now();
    account.resumeAtMs = null;
  }

  resumed(id: string): void {
    this.#account(id).resumeAtMs = this.#now();
  }

  received(id: string, transport: TransportName): void {
    this.#account(id).transport = transport;
    this.set(id, 'received', transport);
  }

  /** The bytes that it holds came in this update; else they are what an earlier one left. */
  wasGiven(id: string): boolean {
    return this.#account(id).transport !== null;
  }

  proof(id: string, proof: ProofReport): void {
    this.#account(id).proof = proof;
  }

  provedByDigest(id: string): boolean {
    const { proof } = this.#account(id);
    return proof?.method === 'digest' && proof.proved > 0 && proof.mismatched.length === 0;
  }

  /** A digest says more than a fingerprint, so it stays. */
  proofUnlessDigest(id: string, proof: ProofReport): void {
    const account = this.#account(id);
    if (account.proof?.method !== 'digest') account.proof = proof;
  }

  weightVersion(id: string, version: string): void {
    this.#account(id).weightVersion = version;
  }

  /** The earliest in time: what other engines say later is often its consequence. */
  firstError(): unknown {
    let first: Account | null = null;
    for (const account of this.#accounts.values()) {
      if (account.errorAtMs !== null && account.errorAtMs < (first?.errorAtMs ?? Infinity)) first = account;
    }
    return first?.error ?? null;
  }

  /** Engines in any of these states. */
  in(...states: readonly EngineState[]): string[] {
    return [...this.#accounts.values()].filter((a) => states.includes(a.state)).map((a) => a.engine.id);
  }

  /** Milliseconds from the first pause request to the last resume; null when nobody was paused and resumed. */
  pauseMs(): number | null {
    const accounts = [...this.#accounts.values()].filter(
      (a) => a.pauseAtMs !== null && a.resumeAtMs !== null,
    );
    if (accounts.length === 0) return null;
    return (
      Math.max(...accounts.map((a) => a.resumeAtMs ?? 0)) - Math.min(...accounts.map((a) => a.pauseAtMs ?? 0))
    );
  }

  close(): {
    readonly phases: readonly { readonly phase: Phase; readonly ms: number }[];
    readonly engines: EngineReport[];
  } {
    this.#leave();
    const engines = [...this.#accounts.values()].map((a) => ({
      id: a.engine.id,
      url: a.engine.url,
      backend: a.engine.backend,
      engineVersion: a.engineVersion,
      workers: a.workers,
      state: a.state,
      transport: a.transport,
      history: [...a.history],
      pausedMs: a.pauseAtMs === null || a.resumeAtMs === null ? null : a.resumeAtMs - a.pauseAtMs,
      weightVersion: a.weightVersion,
      proof: a.proof,
      error: a.error === null ? null : reportError(a.error),
    }));
    return { phases: [...this.#phases], engines };
  }
}
