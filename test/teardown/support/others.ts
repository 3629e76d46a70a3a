import { expect } from 'vitest';
import { PeerProcess } from '../../native/support.js';

/** Far beyond a test: only the end of rank 0 may end these. */
const NEVER_MS = 120_000;
const JOIN_MS = 30_000;
const BYTES = 64 << 20;

/** Ranks 1 and 2 of groups whose rank 0 is about to end, one group after another: rank 1 receives, rank 2 never calls. */
export class Others {
  readonly #receiver = new PeerProcess();
  readonly #idle = new PeerProcess();

  /** Lets `work` join as rank 0 and end; then rank 1 must be told so, and both must be able to leave. */
  async during(frames: 'one' | 'many', work: (uniqueId: string) => Promise<void>): Promise<void> {
    const ranks = [this.#receiver, this.#idle];
    await Promise.all(ranks.map((rank) => rank.call('open')));
    const id = (await this.#receiver.call('uniqueId')) as string;
    const uniqueId = [...Buffer.from(id, 'hex')];
    const joined = Promise.all(
      ranks.map((rank, index) =>
        rank.call('join', { uniqueId, worldSize: 3, rank: index + 1, timeoutMs: JOIN_MS }),
      ),
    );
    const received = joined.then(() =>
      this.#receiver.call('receive', {
        frames: frames === 'one' ? [BYTES] : new Array(64).fill(BYTES / 64),
        root: 0,
        timeoutMs: NEVER_MS,
      }),
    );
    const told = expect(received).rejects.toThrow(/^WC_NCCL_FAILED: .*remote peer/);
    await Promise.all([work(id), joined]);
    await told;
    await Promise.all(ranks.map((rank) => rank.call('leave')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#receiver.kill(), this.#idle.kill()]);
  }
}
