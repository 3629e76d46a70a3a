/** Connections that are open when the pause begins. */
import { onAll } from '../fleet/engine.js';
import type { Attempt } from './attempt.js';

/** An engine that takes longer is paused over a connection that opens then. */
const WARM_UP_MS = 2_000;

/**
 * Asks every engine for something cheap. Idle connections are dropped after seconds, and what comes before a pause may take longer: opened in it, one by
 * one or by the hundred, they would be part of it. Never fails: the pause itself says what is wrong.
 */
export async function warmUp({ engines, signal }: Attempt): Promise<void> {
  await onAll(engines, (engine) => engine.call(engine.admin.health(), { signal, timeoutMs: WARM_UP_MS }));
}
