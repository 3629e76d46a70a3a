/** A second coordinator of the same engines: a session of its own, which pushes while another one does. */
import { connectFleet, type FleetSession } from '../../src/update/index.js';
import type { FleetOptions } from '../../src/update/types.js';

export class Rival {
  readonly #session: FleetSession;
  readonly #checkpoint: string;
  readonly #seen: { events: number };

  private constructor(session: FleetSession, checkpoint: string, seen: { events: number }) {
    this.#session = session;
    this.#checkpoint = checkpoint;
    this.#seen = seen;
  }

  /** Connects before the push that it disturbs; null where an engine does not answer. */
  static async open(options: FleetOptions, checkpoint: string): Promise<Rival | null> {
    const seen = { events: 0 };
    const onEvent: FleetOptions['onEvent'] = ({ kind }) => {
      // Of an engine it says something once its claim stands.
      if (kind === 'engine') seen.events += 1;
    };
    const session = await connectFleet({ ...options, onEvent }).catch(() => null);
    return session === null ? null : new Rival(session, checkpoint, seen);
  }

  /** Whether an engine was its own at some time. */
  get letIn(): boolean {
    return this.#seen.events > 0;
  }

  async push(): Promise<void> {
    await this.#session.update(this.#checkpoint, { version: 'rival' }).catch(() => null);
  }

  async close(): Promise<void> {
    await this.#session.close();
  }
}
