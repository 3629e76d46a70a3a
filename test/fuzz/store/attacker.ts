import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

interface Commands {
  flood: { port: number; count: number; hex?: string; width?: number; deaf?: boolean };
  trickle: { port: number; count: number; hex: string; everyMs: number };
  pour: { hex: string };
  fill: { port: number; keyBytes: number; valueBytes: number; rounds: number };
}

export interface Tally {
  readonly open: number;
  readonly closed: number;
  readonly received: number;
}

/** A hostile client in a process of its own, running attacker.mjs. */
export class Attacker {
  readonly #child: ChildProcess;
  #next = 1;

  constructor() {
    this.#child = fork(fileURLToPath(new URL('attacker.mjs', import.meta.url)), { execArgv: [] });
  }

  run<Name extends keyof Commands>(name: Name, argument: Commands[Name]): Promise<void> {
    return this.#call(name, argument) as Promise<void>;
  }

  tally(): Promise<Tally> {
    return this.#call('count', {}) as Promise<Tally>;
  }

  /** Its kernel still acknowledges; it reads and says nothing, as a host that hangs. */
  freeze(): void {
    this.#child.kill('SIGSTOP');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }

  async #call(name: string, argument: object): Promise<unknown> {
    const id = this.#next++;
    const answer = new Promise<unknown>((resolve, reject) => {
      const onMessage = (message: { id: number; value: unknown }): void => {
        if (message.id !== id) return;
        this.#child.off('message', onMessage);
        this.#child.off('exit', onExit);
        resolve(message.value);
      };
      const onExit = (): void => reject(new Error(`the attacker ended in ${name}`));
      this.#child.on('message', onMessage);
      this.#child.once('exit', onExit);
    });
    this.#child.send({ id, name, argument });
    return answer;
  }
}
