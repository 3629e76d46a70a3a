/** Reference engines that are kept between runs: to start one takes longer than a run. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type EngineState,
  type ReferenceDynamo,
  type ReferenceEngine,
  type ReferenceEngineOptions,
  startReferenceDynamo,
  startReferenceEngine,
  startReferencePrimeRl,
  type VllmVersion,
  writeTinyModel,
} from '../../src/testing/index.js';
import { type Backend, type Scenario, VERSIONS, type Version } from './scenario.js';

export interface EngineSpec {
  readonly backend: Backend;
  /** How it is started to receive, where it has one way for life. */
  readonly transport: Scenario['transport'];
  /** The version of a stock vLLM. */
  readonly vllm: VllmVersion;
  readonly workers: number;
  readonly layers: number;
  /** The emulator's switches of its workers. */
  readonly environment: Readonly<Record<string, string>>;
  readonly workersInEngine: boolean;
}

/** A parameter's digest by its name, a map a worker. */
export type Digests = readonly ReadonlyMap<string, string>[];

interface Known {
  readonly digests: ReadonlyMap<string, Version>;
  readonly answers: ReadonlyMap<string, Version>;
}

const RESET_MS = 3_000;
/** Milliseconds for an answer of an engine that is not paused. */
const ANSWER_MS = 20_000;
const MODEL = 'reference';
const PROMPT = [5, 6, 7];
/** Engines that wait for their next run. */
const KEPT = 14;

export class Pool {
  readonly #folder: string;
  readonly #idle: { readonly key: string; readonly engine: ReferenceEngine }[] = [];
  readonly #models = new Map<number, Promise<void>>();
  readonly #known = new Map<string, Promise<Known>>();
  readonly #living = new Set<ReferenceEngine>();
  /** The deployment of each Dynamo worker: one of its own, with a frontend. */
  readonly #deployments = new Map<ReferenceEngine, ReferenceDynamo>();
  /** Engine processes that were started. */
  started = 0;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async open(): Promise<Pool> {
    return new Pool(await mkdtemp(join(tmpdir(), 'weightcast-faults-')));
  }

  /** A scratch directory that lives as long as the pool. */
  get folder(): string {
    return this.#folder;
  }

  /** Directory of a version; it is written at the first call. */
  async checkpoint(version: Version, layers: number): Promise<string> {
    let written = this.#models.get(layers);
    if (written === undefined) {
      written = this.#write(layers);
      this.#models.set(layers, written);
    }
    await written;
    return this.#directory(version, layers);
  }

  #directory(version: Version, layers: number): string {
    return join(this.#folder, `${layers}-${version}`);
  }

  async #write(layers: number): Promise<void> {
    for (const [index, version] of VERSIONS.entries()) {
      await writeTinyModel(this.#directory(version, layers), {
        layers,
        seed: index + 1,
        shards: 1 + (index % 3),
      });
    }
  }

  /** An engine that serves version a, with nothing in its record. */
  async take(spec: EngineSpec): Promise<ReferenceEngine> {
    const key = keyOf(spec);
    for (;;) {
      const at = this.#idle.findIndex((item) => item.key === key);
      if (at < 0) return this.start(spec, 0);
      const [found] = this.#idle.splice(at, 1);
      if (found !== undefined && (await wasReset(found.engine))) return found.engine;
    }
  }

  /** Starts an engine; on the port of one that is gone, or on a free one (0). */
  async start(spec: EngineSpec, port: number): Promise<ReferenceEngine> {
    const { vllm, workers, layers, environment, workersInEngine } = spec;
    const model = await this.checkpoint('a', layers);
    this.started += 1;
    const options: ReferenceEngineOptions = { workers, workersInEngine, model, port, environment };
    const engine = await this.#startAs(spec, { ...options, version: vllm });
    this.#living.add(engine);
    void engine.exited.then(() => {
      this.#living.delete(engine);
      void this.#deployments.get(engine)?.close();
      this.#deployments.delete(engine);
    });
    return engine;
  }

  async #startAs(spec: EngineSpec, options: ReferenceEngineOptions): Promise<ReferenceEngine> {
    const { version: _, ...others } = options;
    switch (spec.backend) {
      case 'vllm':
        return startReferenceEngine(options);
      case 'prime-rl':
        return startReferencePrimeRl({ ...others, broadcast: spec.transport });
      case 'dynamo': {
        const dynamo = await startReferenceDynamo({ ...others, engines: 1 });
        const [worker] = dynamo.workers;
        if (worker === undefined) throw new Error('a deployment of one worker has none');
        this.#deployments.set(worker.engine, dynamo);
        return worker.engine;
      }
    }
  }

  /** Of a Dynamo worker: its own address, its listener and its frontend, which has /v1/models and inference; null for any other engine. */
  deploymentOf(engine: ReferenceEngine): {
    readonly url: string;
    readonly listener: string;
    readonly frontend: string;
  } | null {
    const dynamo = this.#deployments.get(engine);
    return dynamo === undefined
      ? null
      : { url: engine.url, listener: dynamo.discoveryUrl, frontend: dynamo.url };
  }

  /** What it does at this moment; the version tag of a Dynamo worker is the worker's. */
  async stateOf(engine: ReferenceEngine): Promise<EngineState> {
    const [worker] = this.#deployments.get(engine)?.workers ?? [];
    const state = await engine.state();
    return worker === undefined ? state : { ...state, weightVersion: String((await worker.state()).version) };
  }

  /** What it answers to a prompt, which depends on every byte of its weights and on its prefix cache; null when it does not answer. */
  async answerOf({ backend }: EngineSpec, engine: ReferenceEngine): Promise<string | null> {
    const [worker] = this.#deployments.get(engine)?.workers ?? [];
    if (worker === undefined) {
      // prime-rl's servers keep their prefix cache over an update: whoever asks them says so.
      return ask(engine.url, backend === 'prime-rl' ? { cache_salt: randomUUID() } : {});
    }
    const order = { id: randomUUID(), model: MODEL, prompt: PROMPT, maxTokens: 1, promptLogprobs: 0 };
    const late = sleep(ANSWER_MS, null, { ref: false });
    const answer = await Promise.race([worker.generate({ ...order, cacheSalt: '' }).catch(() => null), late]);
    return answer === null ? null : JSON.stringify(answer.promptLogprobs);
  }

  /** Takes an engine back; one that has died, or that can't be used again, ends. */
  give(spec: EngineSpec, engine: ReferenceEngine, reusable: boolean): void {
    this.#idle.push({ key: keyOf(spec), engine });
    const extra = reusable ? (this.#idle.length > KEPT ? this.#idle.shift() : undefined) : this.#idle.pop();
    void extra?.engine.kill().catch(() => undefined);
  }

  /** The version whose bytes these are; null for anything else. */
  async versionOf(spec: EngineSpec, digests: Digests): Promise<Version | null> {
    return (await this.#knownOf(spec)).digests.get(textOf(digests)) ?? null;
  }

  /** The version that answers so; null for anything else. */
  async versionThatAnswers(spec: EngineSpec, answer: string): Promise<Version | null> {
    return (await this.#knownOf(spec)).answers.get(answer) ?? null;
  }

  #knownOf(spec: EngineSpec): Promise<Known> {
    const key = `${spec.workers} ${spec.layers}`;
    let known = this.#known.get(key);
    if (known === undefined) {
      known = this.#learn(spec);
      this.#known.set(key, known);
    }
    return known;
  }

  /** What an engine of this shape holds of each version, as it loads them itself. */
  async #learn(spec: EngineSpec): Promise<Known> {
    const plain = {
      ...spec,
      ...{ backend: 'vllm' as const, transport: 'nccl' as const, vllm: '0.32.0' as const },
      ...{ environment: {}, workersInEngine: true },
    };
    const engine = await this.take(plain);
    const known = { digests: new Map<string, Version>(), answers: new Map<string, Version>() };
    for (const version of VERSIONS) {
      const directory = await this.checkpoint(version, spec.layers);
      const response = await fetch(`${engine.url}/collective_rpc`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ method: 'reload_weights', kwargs: { weights_path: directory } }),
      });
      if (!response.ok) throw new Error(`the reference engine can't load ${directory}`);
      await fetch(`${engine.url}/reset_prefix_cache`, { method: 'POST' });
      known.digests.set(textOf(await engine.digests()), version);
      const answer = await ask(engine.url);
      if (answer === null) throw new Error(`the reference engine does not answer by ${directory}`);
      known.answers.set(answer, version);
    }
    this.give(plain, engine, true);
    return known;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#living].map((engine) => engine.kill()));
    await rm(this.#folder, { recursive: true, force: true });
  }
}

function keyOf(spec: EngineSpec): string {
  const { backend, transport, vllm, workers, layers, environment, workersInEngine } = spec;
  const what = backend === 'vllm' ? vllm : backend === 'prime-rl' ? `${backend} ${transport}` : backend;
  return JSON.stringify([what, workers, layers, environment, workersInEngine]);
}

function textOf(digests: Digests): string {
  return JSON.stringify(digests.map((worker) => [...worker].sort()));
}

async function wasReset(engine: ReferenceEngine): Promise<boolean> {
  const done = await Promise.race([
    engine.reset().then(
      () => true,
      () => false,
    ),
    sleep(RESET_MS, false, { ref: false }),
  ]);
  if (!done) await engine.kill();
  return done;
}

async function ask(url: string, more: object = {}): Promise<string | null> {
  try {
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        ...{ model: MODEL, prompt: PROMPT, max_tokens: 1, temperature: 0, prompt_logprobs: 0 },
        ...more,
      }),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const { choices } = (await response.json()) as { choices?: { prompt_logprobs?: unknown }[] };
    return response.ok ? JSON.stringify(choices?.[0]?.prompt_logprobs) : null;
  } catch {
    return null;
  }
}
