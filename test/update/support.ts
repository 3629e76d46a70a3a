/** Fleets of reference engines and checkpoints for the tests of the update. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ReferenceEngine,
  type SimulateOptions,
  simulateFleet,
  writeTinyModel,
} from '../../src/testing/index.js';
import { connectFleet, type FleetSession, UpdateError } from '../../src/update/index.js';
import type { FleetOptions, UpdateReport } from '../../src/update/types.js';

export interface Bench {
  readonly engines: readonly ReferenceEngine[];
  readonly urls: readonly string[];
  /** Checkpoints of the same shape: the engines start with `a`. */
  readonly a: string;
  readonly b: string;
  readonly c: string;
  connect(options?: Partial<FleetOptions>): Promise<FleetSession>;
}

/**
 * Runs `body` against fresh engines; everything ends with it. A model of 2 layers fits into what the emulated NCCL buffers, so rank 0 is done before anyone
 * has received; one of 60 layers does not.
 */
export async function withBench(
  { layers = 2, ...options }: SimulateOptions & { readonly layers?: number },
  body: (bench: Bench) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'weightcast-test-'));
  const [a, b, c] = [join(folder, 'a'), join(folder, 'b'), join(folder, 'c')];
  const sessions: FleetSession[] = [];
  try {
    await writeTinyModel(a, { seed: 1, layers });
    await writeTinyModel(b, { seed: 2, shards: 3, layers });
    await writeTinyModel(c, { seed: 3, layers });
    await using fleet = await simulateFleet({ ...options, model: a });
    const urls = fleet.engines.map((engine) => engine.url);
    try {
      await body({
        engines: fleet.engines,
        urls,
        a,
        b,
        c,
        connect: async (more = {}) => {
          const session = await connectFleet({
            engines: urls,
            emulate: true,
            packedBufferBytes: 50_000,
            ...more,
          });
          sessions.push(session);
          return session;
        },
      });
    } finally {
      // Before the engines end: a session takes leave of them.
      await Promise.all(sessions.map((session) => session.close()));
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The report of an update that must not succeed. */
export async function failedReport(update: Promise<UpdateReport>): Promise<UpdateReport> {
  const outcome = await update.then(
    () => null,
    (error: unknown) => error,
  );
  if (!(outcome instanceof UpdateError)) throw new Error(`expected an UpdateError, got ${String(outcome)}`);
  return outcome.report;
}

export async function isPaused(url: string): Promise<boolean> {
  const response = await fetch(`${url}/is_paused`);
  return ((await response.json()) as { is_paused: boolean }).is_paused;
}

/** What the engine answers to a prompt: a function of its weights. */
export async function answer(url: string, prompt = [5, 6, 7]): Promise<unknown> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'reference', prompt, max_tokens: 1, temperature: 0, prompt_logprobs: 0 }),
    signal: AbortSignal.timeout(10_000),
  });
  const body = (await response.json()) as { choices?: { prompt_logprobs?: unknown }[] };
  return body.choices?.[0]?.prompt_logprobs ?? body;
}

/** Digests of all workers of an engine as plain data, to compare engines with. */
export async function digestsOf(engine: ReferenceEngine): Promise<Record<string, string>[]> {
  return (await engine.digests()).map((worker) => Object.fromEntries(worker));
}

/** Paths of the POST requests that this engine itself answered, in their order. */
export async function postsTo(engine: ReferenceEngine): Promise<string[]> {
  return (await engine.exchanges()).filter(({ method }) => method === 'POST').map(({ path }) => path);
}

/** Asks an engine behind the back of the session. */
export async function post(url: string, path: string, body?: unknown): Promise<unknown> {
  const response = await fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: body === undefined ? null : JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text}`);
  return text === '' ? null : (JSON.parse(text) as unknown);
}

/** Digests of the engine once it has loaded a directory itself: what it should hold after an update to it. Changes the engine. */
export async function digestsOfLoaded(engine: ReferenceEngine, directory: string): Promise<object[]> {
  await post(engine.url, '/collective_rpc', {
    method: 'reload_weights',
    kwargs: { weights_path: directory },
  });
  return digestsOf(engine);
}
