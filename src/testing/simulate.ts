/** A fleet of reference engines, for trying things out and for tests. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ReferenceEngine, type ReferenceEngineOptions, startReferenceEngine } from './engine.js';
import { writeTinyModel } from './tiny-model.js';

export interface SimulateOptions extends Omit<ReferenceEngineOptions, 'model'> {
  /** How many engines; default 1. Each has `workers` workers. */
  readonly engines?: number;
  /** Checkpoint directory that every engine loads; default: a tiny model in a temporary directory. */
  readonly model?: string;
}

/** Engines that run until `close()`. */
export interface SimulatedFleet {
  readonly engines: readonly ReferenceEngine[];
  /** 'http://127.0.0.1:41234' of each engine. */
  readonly addresses: readonly string[];
  /** The directory that the engines loaded. */
  readonly model: string;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Starts engines side by side. With a `port` other than 0 they listen on that port and the ones after it.
 *
 * @throws WeightcastError WC_REFERENCE_ENGINE when one does not start; then none is left
 * @example
 * ```ts
 * await using fleet = await simulateFleet({ engines: 2, workers: 2 });
 * console.log(fleet.addresses);
 * ```
 */
export async function simulateFleet(options: SimulateOptions = {}): Promise<SimulatedFleet> {
  const { engines: count = 1, model: given, port = 0, ...rest } = options;
  const temporary = given === undefined ? await mkdtemp(join(tmpdir(), 'weightcast-simulate-')) : null;
  const model = given ?? (temporary as string);
  const engines: ReferenceEngine[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(engines.map((engine) => engine.close()));
    if (temporary !== null) {
      await rm(temporary, { recursive: true, force: true });
    }
  };
  try {
    if (temporary !== null) {
      await writeTinyModel(temporary);
    }
    const started = await Promise.allSettled(
      Array.from({ length: count }, (_, index) =>
        startReferenceEngine({ ...rest, model, port: port === 0 ? 0 : port + index }),
      ),
    );
    engines.push(...started.flatMap((item) => (item.status === 'fulfilled' ? [item.value] : [])));
    const failed = started.find((item) => item.status === 'rejected');
    if (failed !== undefined) {
      throw failed.reason;
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    engines,
    addresses: engines.map((engine) => engine.url),
    model,
    close,
    [Symbol.asyncDispose]: close,
  };
}
