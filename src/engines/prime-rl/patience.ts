/**
 * How long and how often prime-rl's own client tries (contracts/prime-rl.md 1.3): connect 10 s, read 300, 720 or 30 s, twice that in all (four times for an
 * adapter), at most ten tries. A request that makes workers receive from NCCL is sent once, unlike there: a second one reads the next broadcast as its count.
 */
import type { Patience } from '../admin.js';

const CONNECT_MS = 10_000;
const ATTEMPTS = 10;

const twice = (attemptMs: number): Patience => ({
  connectMs: CONNECT_MS,
  attemptMs,
  totalMs: 2 * attemptMs,
  attempts: ATTEMPTS,
});

const once = (totalMs: number): Patience => ({
  connectMs: CONNECT_MS,
  attemptMs: totalMs,
  totalMs,
  attempts: 1,
});

export const ADMIN = twice(300_000);
export const LOAD_FROM_DISK = twice(720_000);
export const LOAD_ADAPTER: Patience = { ...twice(30_000), totalMs: 120_000 };
export const RECEIVE = once(720_000);
/** prime-rl waits without end; the caller's rendezvous has a deadline. */
export const JOIN = once(1_200_000);
