/** The trainer's half of the handshake: weightcast sends, a prime-rl orchestrator pauses and asks the engines to receive. */
import { listSteps, stepPath } from './layout.js';
import { ANSWERS, ASKS, clear, type MarkerGeneration, markedMs, touch } from './markers.js';
import { waitFor } from './wait.js';

export interface SenderOptions {
  /** `<run>/broadcasts`. */
  readonly broadcasts: string;
  readonly version: number;
  /** Which protocol is spoken; default both at once, and the orchestrator's answer decides. */
  readonly generation?: MarkerGeneration;
  /** Milliseconds until the orchestrator must have paused the engines. Default 1,200,000, prime-rl's. */
  readonly timeoutMs?: number;
  /** Milliseconds between two looks. Default 100, as prime-rl's trainer looks. */
  readonly pollMs?: number;
  readonly signal?: AbortSignal;
  readonly onWaiting?: (elapsedMs: number) => void;
}

/** Who answered. */
export interface SenderAnswer {
  readonly generation: MarkerGeneration;
}

const BOTH: readonly MarkerGeneration[] = ['dotfiles', 'stable'];

/**
 * Announces a version, waits until the orchestrator has paused every engine, and runs `send`. When nobody answers, when it is interrupted, and when `send`
 * fails before it has begun, nothing is left that would make an orchestrator send its engines into a receive.
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
  const { broadcasts, version, signal, onWaiting, timeoutMs = 1_200_000, pollMs = 100 } = options;
  const generations = options.generation === undefined ? BOTH : [options.generation];
  const folder = stepPath(broadcasts, version);
  const later = (await listSteps(broadcasts)).filter((step) => step.version >= version);
  await Promise.all(later.map(({ path }) => clear(path)));
  let generation: MarkerGeneration;
  try {
    for (const asking of generations) await touch(folder, ASKS[asking]);
    const what = `an orchestrator that answers ${folder}`;
    const wait = { timeoutMs, pollMs, signal, onWaiting };
    generation = await waitFor(what, () => answered(folder, generations), wait);
    if (generation === 'dotfiles') await touch(folder, '.started');
  } catch (error) {
    await clear(folder).catch(() => undefined);
    throw error;
  }
  const sent = await send({ generation });
  if (generation === 'dotfiles') await touch(folder, '.finished');
  return sent;
}

async function answered(
  folder: string,
  generations: readonly MarkerGeneration[],
): Promise<MarkerGeneration | null> {
  for (const generation of generations) {
    const [asked, answer] = await Promise.all([
      markedMs(folder, ASKS[generation]),
      markedMs(folder, ANSWERS[generation]),
    ]);
    if (asked !== null && answer !== null && answer >= asked) return generation;
  }
  return null;
}
