/** Scores samples under a teacher: what prime-rl's compute_teacher_logprobs does, over either transport. */
import { setMaxListeners } from 'node:events';
import { asWeightcastError, WeightcastError } from '../errors.js';
import type { CallOptions, InferenceClient } from './client.js';
import type { WeightVersion } from './types.js';

/** Token ids, or the two halves that a rollout keeps apart. */
export type TeacherSample =
  | readonly number[]
  | { readonly promptTokens: readonly number[]; readonly completionTokens: readonly number[] };

export interface TeacherOptions extends CallOptions {
  /** Requests in flight at one client. Default 16. */
  readonly concurrency?: number;
  /** Of a teacher that is trained itself; default null, a frozen model. */
  readonly weightVersion?: WeightVersion;
}

const DEFAULT_CONCURRENCY = 16;

/**
 * One list for each sample: a log-probability for each of its tokens (prompt and completion), 0 for the first. Sample i goes to client i mod n.
 *
 * @example
 * const logprobs = await computeTeacherLogprobs([new InferenceClient('dynamo=http://frontend:8000')], 'teacher', [[1, 2, 3]]);
 *
 * @throws WeightcastError of the first sample that could not be scored, with its index in `details.sample`; the others are given up then
 */
export async function computeTeacherLogprobs(
  clients: readonly InferenceClient[],
  model: string,
  samples: readonly TeacherSample[],
  options: TeacherOptions = {},
): Promise<number[][]> {
  const concurrency = options.concurrency ?? DEFAULT_CONCURRENCY;
  if (clients.length === 0) throw new WeightcastError('WC_CONFIG_INVALID', 'no client to score with');
  if (!Number.isSafeInteger(concurrency) || concurrency < 1) {
    throw new WeightcastError('WC_CONFIG_INVALID', 'concurrency must be a whole number from 1');
  }
  const failed = new AbortController();
  const signal = AbortSignal.any([failed.signal, ...(options.signal === undefined ? [] : [options.signal])]);
  // One listener for each request in flight.
  setMaxListeners(0, signal);
  const scored: number[][] = new Array<number[]>(samples.length);

  const lane = async (client: InferenceClient, next: Iterator<number>): Promise<void> => {
    for (let turn = next.next(); turn.done !== true && !signal.aborted; turn = next.next()) {
      const index = turn.value;
      try {
        scored[index] = await client.score(
          {
            model,
            tokens: tokensOf(samples[index] as TeacherSample),
            weightVersion: options.weightVersion ?? null,
          },
          { ...options, signal },
        );
      } catch (error) {
        // Those that this abort ends say so after it: the first reason stays.
        failed.abort(ofSample(error, index));
      }
    }
  };

  await Promise.all(
    clients.flatMap((client, first) => {
      const share = everyNth(first, clients.length, samples.length);
      return Array.from({ length: concurrency }, () => lane(client, share));
    }),
  );
  if (failed.signal.aborted) throw failed.signal.reason;
  if (signal.aborted) {
    throw asWeightcastError(signal.reason, 'WC_UPDATE_ABORTED');
  }
  return scored;
}

function tokensOf(sample: TeacherSample): readonly number[] {
  return 'promptTokens' in sample ? [...sample.promptTokens, ...sample.completionTokens] : sample;
}

function* everyNth(first: number, step: number, end: number): Generator<number> {
  for (let index = first; index < end; index += step) yield index;
}

function ofSample(error: unknown, sample: number): WeightcastError {
  const known = asWeightcastError(error, 'WC_ENGINE_PROTOCOL');
  return new WeightcastError(known.code, `sample ${sample}: ${known.message}`, {
    engine: known.engine ?? undefined,
    phase: known.phase ?? undefined,
    remedy: known.remedy,
    cause: known,
    details: { ...known.details, sample },
  });
}
