/** Engines that have let go of their GPU memory for a while, as vLLM's sleep mode does. */
import type { SleepState } from '../engines/admin.js';
import { WeightcastError } from '../errors.js';

/**
 * Before anybody is paused: what is written to an engine that sleeps has no memory to go to, and at level 1 its own old weights come back when it wakes, under
 * the tag of the new ones. Nor is it woken: somebody else may use its memory now.
 *
 * @throws WeightcastError WC_ENGINE_ASLEEP
 */
export function requireAwake(engine: string, sleep: SleepState | null): void {
  if (sleep === null || sleep === 'awake') return;
  throw new WeightcastError('WC_ENGINE_ASLEEP', `it ${describeSleep(sleep)}`, { engine, phase: 'preflight' });
}

export function describeSleep(sleep: Exclude<SleepState, 'awake'>): string {
  return sleep === 'asleep' ? 'sleeps: its memory is released' : 'sleeps, and its weights are discarded';
}
