/** The trainer's half of the handshake: weightcast sends, a prime-rl orchestrator pauses and asks the engines to receive. */
import { setTimeout as sleep } from 'node:timers/promises';
import { listSteps, stepPath } from './layout.js';
import { ANSWERS, ASKS, clear, type MarkerGeneration, markedMs, touch } from './markers.js';
import { waitFor } from './wait.js';

export interface SenderOptions {
  /** `<run>/broadcasts`. */
  readonly broadcasts: string;
  readonly version: number;
  /** Which protocol is spoken; default both at once, and the orchestrator's answer decides. */
  readonly generation?: MarkerGeneration | undefined;
  /** Milliseconds until the orchestrator must have paused the engines. Default 1,200,000, prime-rl's. */
  readonly timeoutMs?: number;
  /** Milliseconds between two looks. Default 100, as prime-rl's trainer looks. */
  readonly pollMs?: number;
  /**
   * Milliseconds, once the announcement is taken back because of `signal`, for an orchestrator that had seen it to answer: prime-rl's goes on from the pause to the
   * receive without another look. Default 3000. At the deadline it is 800 at most.
   */
  readonly withdrawMs?: number;
  /** Ends the wait for an answer; what was answered is sent. */
  readonly signal?: AbortSignal | undefined;
  readonly onWaiting?: ((elapsedMs: number) => void) | undefined;
}

/** Who answered. */
export interface SenderAnswer {
  readonly generation: MarkerGeneration;
}

const BOTH: readonly MarkerGeneration[] = ['dotfiles', 'stable'];

/** A call returns within a second of its deadline. */
const WITHDRAW_LATE_MS = 800;

/**
 * Announces a version, waits until the orchestrator has paused every engine, and runs `send`. When nobody answers, when it is interrupted, and when `send`
 * fails, nothing is left that would make an orchestrator send its engines into a receive. An answer that comes while the announcement is being taken back
 * is from an orchestrator that asks its engines to receive now: `send` runs all the same, as nobody else could end those receives.
 *
 * What a killed run left is taken away first: the markers of this version and of later ones, which that run will never send (prime-rl's ed4dd34c6). An
 * answer that is older than this announcement is not one.
 *
 * @example
 * await primeRlSend({ broadcasts: '/run/broadcasts', version: 17 }, () => broadcastFrames());
 *
 * @throws WeightcastError WC_RENDEZVOUS_TIMEOUT when no orchestrator answers, WC_UPDATE_ABORTED; what `send` throws
 */
export async function primeRlSend<T>(
  options: SenderOptions,
  send: (answer: SenderAnswer) => Promise<T>,
): Promise<T> {
  const { broadcasts, version } = options;
  const generations = options.generation === undefined ? BOTH : [options.generation];
  const folder = stepPath(broadcasts, version);
  const later = (await listSteps(broadcasts)).filter((step) => step.version >= version);
  await Promise.all(later.map(({ path }) => clear(path)));
  try {
    const generation = await announce(folder, generations, options);
    if (generation === 'dotfiles') await touch(folder, '.started');
    const sent = await send({ generation });
    if (generation === 'dotfiles') await touch(folder, '.finished');
    return sent;
  } catch (error) {
    await clear(folder).catch(() => undefined);
    throw error;
  }
}

async function announce(
  folder: string,
  generations: readonly MarkerGeneration[],
  options: SenderOptions,
): Promise<MarkerGeneration> {
  const { signal, onWaiting, timeoutMs = 1_200_000, pollMs = 100, withdrawMs = 3_000 } = options;
  const asked = new Map<MarkerGeneration, number>();
  try {
    for (const asking of generations) {
      await touch(folder, ASKS[asking]);
      asked.set(asking, (await markedMs(folder, ASKS[asking])) ?? 0);
    }
    const what = `an orchestrator that answers ${folder}`;
    return await waitFor(what, () => answered(folder, asked), { timeoutMs, pollMs, signal, onWaiting });
  } catch (error) {
    await clear(
      folder,
      generations.map((asking) => ASKS[asking]),
    ).catch(() => undefined);
    const graceMs = signal?.aborted === true ? withdrawMs : Math.min(withdrawMs, WITHDRAW_LATE_MS);
    const late = await lateAnswer(folder, asked, { graceMs, pollMs });
    if (late !== null) return late;
    throw error;
  }
}

/** Of an orchestrator that had seen the announcement before it was taken back. */
async function lateAnswer(
  folder: string,
  asked: ReadonlyMap<MarkerGeneration, number>,
  { graceMs, pollMs }: { readonly graceMs: number; readonly pollMs: number },
): Promise<MarkerGeneration | null> {
  const untilMs = performance.now() + graceMs;
  for (;;) {
    const generation = await answered(folder, asked).catch(() => null);
    const leftMs = untilMs - performance.now();
    if (generation !== null || leftMs <= 0) return generation;
    await sleep(Math.max(1, Math.min(pollMs, leftMs)));
  }
}

async function answered(
  folder: string,
  asked: ReadonlyMap<MarkerGeneration, number>,
): Promise<MarkerGeneration | null> {
  for (const [generation, askedMs] of asked) {
    const answeredMs = await markedMs(folder, ANSWERS[generation]);
    if (answeredMs !== null && answeredMs >= askedMs) return generation;
  }
  return null;
}
