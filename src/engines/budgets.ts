/** Deadlines and retry of admin calls: data, all of it configurable. */
import type { Budget } from './admin.js';

/** Milliseconds. A try that takes longer is given up; after `totalMs` the whole exchange is. */
export interface Deadline {
  readonly attemptMs: number;
  readonly totalMs: number;
}

/**
 * vLLM has no timeout of its own on any of these calls (contracts/vllm.md 2.3): the client's is the only one. Calls that may
 * legitimately take long get one try that lasts as long as the whole.
 */
export const DEFAULT_BUDGETS: Readonly<Record<Budget, Deadline>> = {
  probe: { attemptMs: 5_000, totalMs: 15_000 },
  pause: { attemptMs: 300_000, totalMs: 300_000 },
  init: { attemptMs: 300_000, totalMs: 300_000 },
  update: { attemptMs: 720_000, totalMs: 720_000 },
  load: { attemptMs: 720_000, totalMs: 720_000 },
  checksum: { attemptMs: 300_000, totalMs: 300_000 },
  score: { attemptMs: 60_000, totalMs: 60_000 },
};

/** How a retryable exchange is repeated. */
export interface RetryPolicy {
  /** Tries in all. */
  readonly attempts: number;
  /** Milliseconds before the second try; doubles from there. */
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = { attempts: 4, minDelayMs: 1_000, maxDelayMs: 10_000 };

/** Milliseconds to wait after try number `failed` (from 1): exponential, at least half of it, the rest by chance. */
export function backoffMs(policy: RetryPolicy, failed: number, random: () => number = Math.random): number {
  const full = Math.min(policy.maxDelayMs, policy.minDelayMs * 2 ** failed);
  return Math.max(policy.minDelayMs, full * (0.5 + random() / 2));
}

/** Node's timers fire at once beyond this. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The deadline of one exchange; `totalMs` replaces the total, and the try's too where one try may take it all. */
export function deadlineOf(budget: Deadline, totalMs: number | undefined): Deadline {
  if (totalMs === undefined) return budget;
  const timeoutMs = Math.min(totalMs, MAX_TIMER_MS);
  const single = budget.attemptMs >= budget.totalMs;
  return { attemptMs: single ? timeoutMs : Math.min(budget.attemptMs, timeoutMs), totalMs: timeoutMs };
}
