/** Runs one scenario: engines from the pool, a proxy before each, faults armed push by push, facts after each push. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ReferenceEngine } from '../../src/testing/index.js';
import type { UpdateTimeouts } from '../../src/update/types.js';
import { KINDS } from './catalogue.js';
import {
  type Coordinator,
  type CoordinatorFactory,
  CoordinatorKilled,
  type Outcome,
  type PushSettings,
} from './coordinator.js';
import { operationOf } from './dialect.js';
import { copyOf, damage } from './disk.js';
import type { EngineBefore, StepFacts } from './facts.js';
import { forkedWeightcast } from './forked.js';
import { Gate } from './gate.js';
import { inspect, within } from './inspect.js';
import { coordinatorEnvironment, engineEnvironment, engineFaults, strikesRankZero } from './own-faults.js';
import type { EngineSpec, Pool } from './pool.js';
import { Rival } from './rival.js';
import { type Backend, needsProcess, type Scenario, type Step } from './scenario.js';
import { type Findable, Source } from './source.js';
import type { Stalls } from './stalls.js';
import { arm, type Targets } from './strike.js';
import { optionsOf, weightcast } from './weightcast.js';

export interface RunOptions {
  readonly pool: Pool;
  readonly stalls: Stalls;
  /** Default: weightcast, in this process or, where the scenario needs it, in one of its own. */
  readonly factory?: CoordinatorFactory;
}

/** Chunks of the tiny model; the large one has bigger chunks, not more of them. */
const PACKED_BUFFER_BYTES = { 2: 50_000, 60: 900_000 } as const;
/** So that nothing is late in the push that has to heal, however busy the machine. */
const HEALING_TIMEOUTS: UpdateTimeouts = {
  probe: 20_000,
  pause: 20_000,
  resume: 20_000,
  rendezvous: 20_000,
  // A worker that was started to be slow stays it: then files heal.
  update: 8_000,
  checksum: 20_000,
  score: 20_000,
  discovery: 20_000,
};
/** A push that has not returned by then never does. */
const GIVE_UP_MS = 60_000;
const CALL_MS = 20_000;

interface Seat {
  engine: ReferenceEngine;
  spec: EngineSpec;
  replaced: 'killed' | 'restarted' | null;
  readonly gate: Gate;
  /** Before the frontend of a Dynamo worker, which changes with it; nothing strikes there. */
  readonly front: Gate | null;
}

/**
 * Runs a scenario and one more push after it, to which nothing happens and which may heal by files.
 *
 * @returns facts of every push, in order
 */
export async function runScenario(scenario: Scenario, options: RunOptions): Promise<readonly StepFacts[]> {
  const run = new Run(scenario, options);
  try {
    await run.open();
    return await run.all();
  } finally {
    await run.close();
  }
}

class Run {
  readonly #scenario: Scenario;
  readonly #options: RunOptions;
  readonly #seats: Seat[] = [];
  readonly #folder: string;
  #source: Source | null = null;
  /** What goes on beside a push and must end before the engines are asked. */
  readonly #background = new Set<Promise<unknown>>();

  constructor(scenario: Scenario, options: RunOptions) {
    this.#scenario = scenario;
    this.#options = options;
    this.#folder = join(options.pool.folder, `run-${scenario.seed}`);
  }

  async open(): Promise<void> {
    const { pool } = this.#options;
    const { engines, workers, vllm, layers, backends, transport } = this.#scenario;
    // A worker that dies alone leaves its engine time for last answers.
    const workersInEngine = !this.#scenario.steps.some(({ faults }) =>
      faults.some(({ kind }) => kind.startsWith('peer-dies')),
    );
    const opened = await Promise.allSettled(
      Array.from({ length: engines }, async (_, index) => {
        const environment = engineEnvironment(this.#scenario, index);
        const backend = backends[index] as Backend;
        const spec = { backend, transport, vllm, workers, layers, environment, workersInEngine };
        const engine = await pool.take(spec);
        const deployment = pool.deploymentOf(engine);
        this.#seats[index] = {
          engine,
          spec,
          replaced: null,
          gate: await Gate.open(engine.url, {
            nameOf: (asked) => operationOf(backend, transport, asked),
          }),
          front: deployment === null ? null : await Gate.open(deployment.frontend),
        };
      }),
    );
    const failed = opened.find((item) => item.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    const { found } = this.#scenario;
    if (found !== null)
      this.#source = await Source.open(
        found,
        this.#seats.map((seat) => this.#findable(seat)),
      );
  }

  async all(): Promise<StepFacts[]> {
    const facts: StepFacts[] = [];
    let before: readonly EngineBefore[] = this.#seats.map(() => ({ holds: 'a', paused: false }));
    const coordinator = this.#coordinator(this.#settings(), this.#seats, false);
    try {
      for (const [index, step] of this.#scenario.steps.entries()) {
        const seen = await this.#push(coordinator, { step, index, before, seats: this.#seats });
        facts.push(seen);
        before = afterwards(seen);
      }
    } finally {
      await coordinator.close();
    }
    facts.push(...(await this.#heal(before, facts.at(-1))));
    return facts;
  }

  /** A push to all that live, with nothing in its way. */
  async #heal(before: readonly EngineBefore[], last: StepFacts | undefined): Promise<StepFacts[]> {
    const alive = this.#seats.filter((_, index) => {
      const facts = last?.engines[index];
      return facts?.alive === true && !facts.stuck;
    });
    if (alive.length === 0) return [];
    const settings = { ...this.#settings(), fallback: 'filesystem', timeouts: HEALING_TIMEOUTS } as const;
    const coordinator = this.#coordinator(settings, alive, true);
    try {
      const step: Step = { version: 'e', faults: [] };
      const index = this.#scenario.steps.length;
      const mine = before.filter((_, at) => alive.includes(this.#seats[at] as Seat));
      return [await this.#push(coordinator, { step, index, before: mine, seats: alive })];
    } finally {
      await coordinator.close();
    }
  }

  #settings(): PushSettings {
    const { recover, layers, ...scenario } = this.#scenario;
    return {
      ...scenario,
      recover: recover ? join(this.#options.pool.folder, `${layers}-a`) : null,
      packedBufferBytes: PACKED_BUFFER_BYTES[layers],
      stateDir: join(this.#folder, 'state'),
    };
  }

  #coordinator(settings: PushSettings, seats: readonly Seat[], healing: boolean): Coordinator {
    const forked = !healing && needsProcess(this.#scenario);
    const factory = this.#options.factory ?? (forked ? forkedWeightcast : weightcast);
    return factory({
      engines: seats.map(({ gate }) => gate.url),
      names: seats.map(nameOf),
      source: healing ? null : this.#source,
      settings,
      environment: healing ? {} : coordinatorEnvironment(this.#scenario),
    });
  }

  async #push(
    coordinator: Coordinator,
    {
      step,
      index,
      before,
      seats,
    }: {
      readonly step: Step;
      readonly index: number;
      readonly before: readonly EngineBefore[];
      readonly seats: readonly Seat[];
    },
  ): Promise<StepFacts> {
    const { pool, stalls } = this.#options;
    const recorded = await this.#prepare(step, seats);
    const checkpoint = await this.#checkpoint(step, index);
    const interrupt = new AbortController();
    const ended = new AbortController();
    const pushEnded = new Promise<void>((resolve) => {
      ended.signal.addEventListener('abort', () => resolve());
    });
    this.#restoreSource(index);
    const rival = await this.#rival(step, seats);
    const targets = this.#targets({ index, checkpoint, coordinator, interrupt, rival });
    const strikes = arm(step.faults, targets, pushEnded);
    const stalledBefore = stalls.totalMs;
    const began = performance.now();
    const outcome = await pushed(
      coordinator.push({ checkpoint, weightVersion: step.version, signal: interrupt.signal }),
    );
    const tookMs = performance.now() - began;
    const stalledMs = stalls.totalMs - stalledBefore;
    ended.abort();
    await Promise.all(this.#background);
    this.#background.clear();
    await coordinator.settled?.();
    await rival?.close();
    const engines = await Promise.all(
      seats.map((seat, at) => inspect(pool, { ...seat, recorded: seat.replaced ? 0 : (recorded[at] ?? 0) })),
    );
    return {
      scenario: this.#scenario,
      step,
      index,
      healing: index === this.#scenario.steps.length,
      before,
      engines,
      outcome,
      rivalLetIn: rival?.letIn ?? false,
      struck: strikes.map(({ fault, count }) =>
        strikesRankZero(fault) ? Number(failedNccl(outcome)) : count,
      ),
      tookMs,
      stalledMs,
    };
  }

  /** Forgets the faults of the push before, and tells engines of theirs. Returns the length of each engine's record. */
  async #prepare(step: Step, seats: readonly Seat[]): Promise<number[]> {
    return Promise.all(
      seats.map(async (seat) => {
        seat.replaced = null;
        await seat.gate.forget();
        await within(seat.engine.setFaults(engineFaults(step.faults, this.#seats.indexOf(seat))), CALL_MS);
        return ((await within(seat.engine.exchanges(), CALL_MS)) ?? []).length;
      }),
    );
  }

  async #checkpoint({ version, faults }: Step, index: number): Promise<string> {
    const pristine = await this.#options.pool.checkpoint(version, this.#scenario.layers);
    const damaged = faults.some(({ kind }) => KINDS[kind].layer === 'disk');
    return damaged ? copyOf(pristine, join(this.#folder, String(index))) : pristine;
  }

  #findable(seat: Seat): Findable {
    const deployed = () => this.#options.pool.deploymentOf(seat.engine);
    return { url: seat.gate.url, name: nameOf(seat), deployed };
  }

  /** What was wrong with it in the push before is over some moments after this one has begun. */
  #restoreSource(index: number): void {
    const chance = this.#scenario.steps[index - 1]?.faults[0]?.chance;
    if (chance === undefined || index === this.#scenario.steps.length) this.#source?.restore();
    else this.#background.add(sleep(400 * chance).then(() => this.#source?.restore()));
  }

  /** Connected before anything strikes. */
  async #rival({ faults }: Step, seats: readonly Seat[]): Promise<Rival | null> {
    if (faults.every(({ kind }) => kind !== 'two-coordinators')) return null;
    const options = optionsOf(seats.map(nameOf), this.#settings());
    return Rival.open(options, await this.#options.pool.checkpoint('e', this.#scenario.layers));
  }

  #targets(push: {
    readonly index: number;
    readonly checkpoint: string;
    readonly coordinator: Coordinator;
    readonly interrupt: AbortController;
    readonly rival: Rival | null;
  }): Targets {
    return {
      scenario: this.#scenario,
      index: push.index,
      gates: this.#seats.map(({ gate }) => gate),
      killEngine: (engine) => this.#kill(engine),
      restartEngine: (engine, delayMs) => this.#restart(engine, delayMs),
      killCoordinator: () => push.coordinator.kill?.(),
      interrupt: () => push.interrupt.abort(),
      rival: async () => push.rival?.push(),
      disturbSource: ({ kind, engine, applied }) => {
        if (kind === 'unlisted') this.#source?.hide(engine);
        else this.#source?.fail(applied ? 'error' : 'empty');
      },
      damageDisk: (fault) => damage(push.checkpoint, fault),
    };
  }

  async #kill(engine: number): Promise<void> {
    const seat = this.#seats[engine] as Seat;
    seat.replaced = 'killed';
    seat.gate.refuse();
    await seat.engine.kill();
  }

  /** Kills an engine; another process answers under its address after a while. */
  async #restart(engine: number, delayMs: number): Promise<void> {
    const killed = this.#kill(engine);
    // From now on: a push can fail and end before the engine's process has.
    this.#background.add(killed.then(() => this.#replace(engine, delayMs)));
    await killed;
  }

  async #replace(engine: number, delayMs: number): Promise<void> {
    const seat = this.#seats[engine] as Seat;
    await sleep(delayMs);
    seat.spec = { ...seat.spec, environment: {} };
    seat.engine = await this.#options.pool.take(seat.spec);
    seat.replaced = 'restarted';
    seat.gate.retarget(seat.engine.url);
    const deployment = this.#options.pool.deploymentOf(seat.engine);
    if (deployment !== null) seat.front?.retarget(deployment.frontend);
    await seat.gate.accept();
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#background);
    await this.#source?.close();
    for (const seat of this.#seats) {
      if (seat === undefined) continue;
      await Promise.all([seat.gate.close(), seat.front?.close()]);
      const plain = Object.keys(seat.spec.environment).length === 0;
      this.#options.pool.give(seat.spec, seat.engine, plain);
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** As `weightcast --engine` takes it. */
function nameOf({ gate, front, spec: { backend, workers } }: Seat): string {
  if (backend === 'vllm') return gate.url;
  const inference = front === null ? '' : `,inference=${front.url}`;
  return `${backend}=${gate.url},workers=${workers}${inference}`;
}

/** No engine is asked for anything where rank 0 can't even begin: what it says tells that the fault struck. */
const failedNccl = (outcome: Outcome | null): boolean =>
  outcome?.ok === false ||
  outcome?.report?.notes.some((note) => note.startsWith("NCCL can't be used")) === true;

async function pushed(push: Promise<Outcome>): Promise<Outcome | null> {
  const late = sleep(GIVE_UP_MS, null, { ref: false }).then((): Outcome => {
    const error = { code: 'NEVER', message: `the push did not return within ${GIVE_UP_MS} ms` };
    return { ok: false, claims: new Map(), error, report: null };
  });
  try {
    return await Promise.race([push, late]);
  } catch (error) {
    if (error instanceof CoordinatorKilled) return null;
    throw error;
  }
}

function afterwards({ engines }: StepFacts): EngineBefore[] {
  return engines.map(({ holds, state, stuck }) => ({ holds, paused: stuck || state?.paused != null }));
}
