import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ProcessGroup } from '../group.js';
import { tail } from '../process.js';
import type { PythonEnvironment } from '../venv.js';
import { type Frontend, type FrontendOptions, type RlWorker, startFrontend } from './frontend.js';
import type { Plane } from './plane.js';
import { writeTinyModel } from './tiny.js';
import { startWorker, type WorkerOptions } from './worker.js';

const READY_TIMEOUT_MS = 120_000;

/** One plane and all that a test starts on it. */
export interface Deployment {
  readonly plane: Plane;
  /** Directory of the tiny model. */
  readonly model: string;
  /** A directory for the test's files, gone at the end. */
  readonly directory: string;
  frontend(options?: Partial<FrontendOptions>): Promise<Frontend>;
  worker(options?: Partial<WorkerOptions>): Promise<ProcessGroup>;
  /** Ends of all logs, for a failed test. */
  logs(): string;
  stop(): Promise<void>;
}

/** Readies a deployment without processes; the test starts them. */
export async function deploy(python: PythonEnvironment, plane: Plane): Promise<Deployment> {
  const directory = await mkdtemp(join(tmpdir(), 'weightcast-deployment-'));
  const model = join(directory, 'model');
  await writeTinyModel(model);
  const groups: ProcessGroup[] = [];
  return {
    plane,
    model,
    directory,
    frontend: async (options = {}) => {
      const frontend = await startFrontend({ python, plane, ...options });
      groups.push(frontend.group);
      return frontend;
    },
    worker: async (options = {}) => {
      const worker = await startWorker({ python, plane, model, ...options });
      groups.push(worker);
      return worker;
    },
    logs: () => groups.map((group) => `---\n${tail(group.log(), 15)}\n`).join(''),
    stop: async () => {
      await Promise.all(groups.map((group) => group.stop()));
      await plane.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Asks until the answer fits. @throws Error with the last answer. */
export async function until<T>(
  ask: () => Promise<T>,
  fits: (answer: T) => boolean,
  timeoutMs = READY_TIMEOUT_MS,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (fits(answer)) return answer;
    if (performance.now() > deadline) {
      throw new Error(`not after ${timeoutMs} ms: ${JSON.stringify(answer)?.slice(0, 2_000)}`);
    }
    await sleep(50);
  }
}

/** Waits until exactly so many workers are listed, all of them with routes, and the frontend serves their model. */
export async function untilListed(frontend: Frontend, count: number): Promise<readonly RlWorker[]> {
  const { workers } = await until(
    () => frontend.rlWorkers(),
    ({ workers: listed }) => listed.length === count && listed.every((worker) => worker.routes.length > 0),
  );
  await until(
    () => frontend.models(),
    (models) => models.length > 0,
  );
  return workers;
}
