/** Keeps looking at an elastic fleet: who is there, who answers, who holds the fleet's version; brings newcomers to it. */

import { setMaxListeners } from 'node:events';
import type { EngineTarget } from '../../engines/http.js';
import type { Member, Unusable } from '../membership.js';
import { mergeMembers } from '../merge.js';
import type { Found } from '../specs.js';
import { untilAborted } from './dns.js';
import { type ElasticMetrics, elasticMetrics, prometheusText } from './metrics.js';
import {
  advance,
  DEFAULT_POLICY,
  type Desired,
  EMPTY_POOL,
  type LeftWeights,
  type MemberState,
  type PoolEvent,
  type PoolPolicy,
  type PoolState,
  type Seen,
  wish,
} from './state.js';

export interface PoolOptions {
  readonly sources: readonly Pick<Found, 'source'>[];
  /** Engines that always belong to it. */
  readonly fixed?: readonly EngineTarget[] | undefined;
  /** Asks one engine; `withAdapters`: also for the adapters that it serves. */
  readonly probe: (
    target: EngineTarget,
    how: { readonly withAdapters: boolean; readonly signal: AbortSignal },
  ) => Promise<Seen>;
  /** Brings one engine to the fleet's version, serving at the end; null: nobody is brought anywhere. */
  readonly sync: ((target: EngineTarget, desired: Desired, signal: AbortSignal) => Promise<void>) | null;
  /** True for a failed sync that says nothing about the engine: somebody else updates it now. */
  readonly isPassing?: ((error: unknown) => boolean) | undefined;
  readonly policy?: Partial<PoolPolicy> | undefined;
  /** Milliseconds between two looks. Default 5,000, as prime-rl's sync_interval. */
  readonly intervalMs?: number | undefined;
  /** Data plane for requests: a router before the engines. */
  readonly routerUrl?: string | null | undefined;
  readonly onChange?: ((view: readonly EngineView[]) => void) | undefined;
}

export interface EngineView {
  readonly url: string;
  readonly backend: string;
  readonly identity: string | null;
  readonly state: MemberState;
  readonly reason: string | null;
  readonly workers: number | null;
  readonly weightVersion: string | null;
}

/** What an update left of an engine. */
export interface Left {
  readonly id: string;
  /** As its source says. */
  readonly identity: string | null;
  readonly weights: LeftWeights;
  /** Why it is paused and excluded; null when it is not. */
  readonly quarantined: string | null;
}

/** Milliseconds that running syncs get to end before an update of the fleet begins. */
const SYNC_GRACE_MS = 30_000;

export class ElasticPool {
  readonly #options: PoolOptions;
  readonly #policy: PoolPolicy;
  readonly #closing = new AbortController();
  readonly #syncs = new Map<string, { readonly done: Promise<void>; readonly stop: AbortController }>();
  /** Of the look that runs: an update does not wait for it. */
  #looking = new AbortController();
  #state: PoolState = EMPTY_POOL;
  #targets = new Map<string, Member>();
  #unusable: readonly Unusable[] = [];
  #troubles: readonly string[] = [];
  #held = 0;
  #running: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#policy = { ...DEFAULT_POLICY, ...options.policy };
    setMaxListeners(0, this.#closing.signal);
  }

  /** Looks now and then again and again; keeps no process alive. */
  start(): void {
    const next = (): void => {
      if (this.#closing.signal.aborted) return;
      this.#timer = setTimeout(() => void this.look().finally(next), this.#options.intervalMs ?? 5_000);
      this.#timer.unref();
    };
    void this.look().finally(next);
  }

  /** One look at everything; never rejects. Two at once are one. Does nothing while an update holds the fleet. */
  look(): Promise<void> {
    if (this.#held > 0 || this.#closing.signal.aborted) return Promise.resolve();
    this.#running ??= this.#look().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #look(): Promise<void> {
    this.#looking = new AbortController();
    const signal = AbortSignal.any([this.#closing.signal, this.#looking.signal]);
    setMaxListeners(0, signal);
    await this.#poll(signal);
    const withAdapters = (this.#state.desired?.adapters.length ?? 0) > 0;
    await Promise.all(
      [...this.#targets.values()].map(async ({ target }) => {
        // Being loaded, it may well be paused or slow.
        if (this.#syncs.has(target.id)) return;
        const event = await this.#options.probe(target, { withAdapters, signal }).then(
          (seen): PoolEvent => ({ kind: 'answered', id: target.id, seen }),
          (error: unknown): PoolEvent => ({ kind: 'silent', id: target.id, why: textOf(error) }),
        );
        if (!signal.aborted && !this.#syncs.has(target.id)) this.#advance(event);
      }),
    );
    if (this.#held === 0) this.#syncAll();
  }

  /** The members of all sources; those of a source that could not be asked stay. */
  async #poll(signal: AbortSignal): Promise<void> {
    const { sources, fixed = [] } = this.#options;
    const troubles: string[] = [];
    const unusable: Unusable[] = [];
    const found: Member[] = [];
    const polled = await Promise.allSettled(sources.map(({ source }) => source.poll(signal)));
    for (const outcome of polled) {
      if (outcome.status === 'rejected') {
        troubles.push(textOf(outcome.reason));
        continue;
      }
      unusable.push(...outcome.value.unusable);
      found.push(...outcome.value.members);
    }
    if (signal.aborted) return;
    const merged = mergeMembers(fixed, found);
    const members = new Map(merged.members.map((member) => [member.target.id, member]));
    if (troubles.length > 0)
      for (const [id, member] of this.#targets) if (!members.has(id)) members.set(id, member);
    this.#troubles = [...troubles, ...merged.twice.map((url) => `${url} is found twice`)];
    this.#unusable = unusable;
    this.#targets = members;
    const named = [...members.values()].map(({ target, identity }) => ({ id: target.id, identity }));
    this.#advance({ kind: 'members', members: named });
  }

  #syncAll(): void {
    const { sync, isPassing } = this.#options;
    const { desired, engines } = this.#state;
    if (sync === null || desired === null) return;
    for (const { id, state } of engines.values()) {
      const target = this.#targets.get(id)?.target;
      if (state !== 'syncing' || target === undefined || this.#syncs.has(id)) continue;
      const stop = new AbortController();
      const signal = AbortSignal.any([stop.signal, this.#closing.signal]);
      const done = sync(target, desired, signal)
        .then(
          (): PoolEvent => ({ kind: 'synced', id, to: desired }),
          (error: unknown): PoolEvent => {
            const counts = !signal.aborted && isPassing?.(error) !== true;
            return { kind: 'sync-failed', id, why: textOf(error), counts };
          },
        )
        .then((event) => {
          this.#syncs.delete(id);
          this.#advance(event);
        });
      this.#syncs.set(id, { done, stop });
    }
  }

  #advance(event: PoolEvent): void {
    const before = this.#state;
    this.#state = advance(before, event, this.#policy);
    this.#tell(before);
  }

  #tell(before: PoolState): void {
    if (JSON.stringify(shape(before)) === JSON.stringify(shape(this.#state))) return;
    this.#options.onChange?.(this.engines);
  }

  /** The version that newcomers are brought to, by whoever has just put the others on it: `left` says what became of each engine. */
  conclude(desired: Desired | null, left: readonly Left[]): void {
    const before = this.#state;
    this.#meet(left);
    this.#state = wish(this.#state, desired);
    for (const { id, weights, quarantined } of left)
      this.#state = advance(this.#state, { kind: 'left', id, weights, quarantined }, this.#policy);
    this.#tell(before);
  }

  /** The adapters that newcomers get beside the version of the fleet, by whoever has just put them on these. */
  concludeAdapters(desired: Desired, on: readonly Pick<Left, 'id' | 'identity'>[]): void {
    const before = this.#state;
    this.#meet(on);
    // The adapters first: who has them stays ready.
    const given = on.reduce<PoolState>(
      (state, { id }) => advance(state, { kind: 'adapters', id }, this.#policy),
      { ...this.#state, desired },
    );
    this.#state = wish({ ...given, desired: before.desired }, desired);
    this.#tell(before);
  }

  /** Before the first look it knows nobody. */
  #meet(left: readonly Pick<Left, 'id' | 'identity'>[]): void {
    const before = this.#state;
    const members = new Map(left.map(({ id, identity }) => [id, { id, identity }]));
    for (const { id, identity } of before.engines.values())
      if (!members.has(id)) members.set(id, { id, identity });
    this.#state = advance(before, { kind: 'members', members: [...members.values()] }, this.#policy);
  }

  /**
   * Keeps hands off the engines until the function that it returns is called: an update of the fleet begins. Syncs that run end first, within half a minute, or
   * are called off.
   *
   * @param signal of who waits: aborted, it waits no longer, and a sync that runs goes on under the claim that it has
   */
  async hold(signal?: AbortSignal): Promise<() => void> {
    this.#held += 1;
    this.#looking.abort();
    const timer = setTimeout(() => {
      for (const { stop } of this.#syncs.values()) stop.abort();
    }, SYNC_GRACE_MS);
    const quiet = this.#quiet();
    await (signal === undefined ? quiet : untilAborted(quiet, signal).catch(() => undefined));
    clearTimeout(timer);
    let released = false;
    return () => {
      if (!released) this.#held -= 1;
      released = true;
    };
  }

  get engines(): readonly EngineView[] {
    return [...this.#state.engines.values()].map(({ id, identity, state, reason, last }) => {
      const target = this.#targets.get(id)?.target;
      return {
        ...{ url: id, backend: target?.backend ?? 'vllm', identity, state, reason },
        ...{ workers: target?.workers ?? null, weightVersion: last?.weightVersion ?? null },
      };
    });
  }

  get unusable(): readonly Unusable[] {
    return this.#unusable;
  }

  /** Why some source could not be asked at the last look. */
  get troubles(): readonly string[] {
    return this.#troubles;
  }

  /** Where requests go: the router if there is one, else the engines; nowhere before an engine is ready. */
  get readyUrls(): readonly string[] {
    const ready = [...this.#state.engines.values()].filter(({ state }) => state === 'ready');
    if (ready.length === 0) return [];
    if (this.#options.routerUrl != null) return [this.#options.routerUrl];
    return [...new Set(ready.flatMap(({ id }) => inferenceUrlOf(id, this.#targets.get(id)?.target)))];
  }

  metrics(): ElasticMetrics {
    return elasticMetrics(this.#state);
  }

  /** For a scrape by Prometheus. */
  prometheus(): string {
    return prometheusText(this.#state);
  }

  /** Ends all; running syncs leave their engines in a defined state first. Safe to call twice. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#closing.abort();
    await this.#quiet();
  }

  async #quiet(): Promise<void> {
    await this.#running;
    await Promise.all([...this.#syncs.values()].map(({ done }) => done));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The system port of a Dynamo worker answers no requests: where nobody says its frontend, none is known. */
function inferenceUrlOf(id: string, target: EngineTarget | undefined): readonly string[] {
  if (target?.inferenceUrl != null) return [target.inferenceUrl];
  return target?.backend === 'dynamo' ? [] : [id];
}

function shape({ engines, desired }: PoolState): unknown {
  return [
    desired,
    [...engines.values()].map(({ id, identity, state, reason }) => [id, identity, state, reason]),
  ];
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
