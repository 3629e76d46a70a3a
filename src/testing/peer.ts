/** Calls between two processes over an IPC channel: small messages, answered by number. */
import type { ChildProcess } from 'node:child_process';
import { type Deferred, deferred } from './deferred.js';
import { WorkerError } from './server/transfer-info.js';

type Message =
  | { readonly kind: 'call'; readonly id: number; readonly body: unknown }
  | { readonly kind: 'result'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: number; readonly text: string; readonly isWorkerError: boolean }
  | { readonly kind: 'notice'; readonly body: unknown };

/** The child's end is `process` itself. */
type Port = ChildProcess | NodeJS.Process;

export interface PeerHandlers<Call, Notice> {
  call?(body: Call): Promise<unknown>;
  notice?(body: Notice): void;
  /** The other process is gone. */
  lost(): void;
}

export class Peer<Call = never, Notice = never> {
  readonly #port: Port;
  readonly #handlers: PeerHandlers<Call, Notice>;
  readonly #pending = new Map<number, Deferred<unknown>>();
  #next = 0;
  #lost = false;

  constructor(port: Port, handlers: PeerHandlers<Call, Notice>) {
    this.#port = port;
    this.#handlers = handlers;
    port.on('message', (message: Message) => this.#receive(message));
    port.on('disconnect', () => this.#disconnected());
  }

  /** Rejects when the other side's handler does, and when it is gone. */
  call<T>(body: unknown): Promise<T> {
    const answer = deferred<unknown>();
    this.#next += 1;
    this.#pending.set(this.#next, answer);
    this.#send({ kind: 'call', id: this.#next, body });
    return answer.promise as Promise<T>;
  }

  notify(body: unknown): void {
    this.#send({ kind: 'notice', body });
  }

  #send(message: Message): void {
    if (this.#lost || this.#port.connected !== true) {
      this.#disconnected();
      return;
    }
    this.#port.send?.(message, undefined, undefined, (error) => {
      if (error !== null) {
        this.#disconnected();
      }
    });
  }

  #receive(message: Message): void {
    switch (message.kind) {
      case 'call':
        void this.#serve(message.id, message.body as Call);
        break;
      case 'notice':
        this.#handlers.notice?.(message.body as Notice);
        break;
      case 'result':
        this.#take(message.id)?.resolve(message.value);
        break;
      case 'error':
        this.#take(message.id)?.reject(
          message.isWorkerError ? new WorkerError(message.text) : new Error(message.text),
        );
        break;
    }
  }

  async #serve(id: number, body: Call): Promise<void> {
    try {
      this.#send({ kind: 'result', id, value: await this.#handlers.call?.(body) });
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#send({ kind: 'error', id, text, isWorkerError: error instanceof WorkerError });
    }
  }

  #take(id: number): Deferred<unknown> | undefined {
    const answer = this.#pending.get(id);
    this.#pending.delete(id);
    return answer;
  }

  #disconnected(): void {
    for (const id of [...this.#pending.keys()]) {
      this.#take(id)?.reject(new Error('the process is gone'));
    }
    if (!this.#lost) {
      this.#lost = true;
      this.#handlers.lost();
    }
  }
}
