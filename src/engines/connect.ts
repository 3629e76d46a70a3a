/** How a backend is connected. */
import type { EngineAdmin } from './admin.js';
import type { EngineTarget, ExchangeOptions, HttpClient } from './http.js';

export interface ConnectOptions extends ExchangeOptions {
  /** How weights are about to be sent: what a server that can't say how it receives is taken to receive by. */
  readonly transport?: 'nccl' | 'filesystem' | undefined;
}

/** Finds out what a server can do; nothing that it sends has effects. */
export type Connect = (
  http: HttpClient,
  target: EngineTarget,
  options?: ConnectOptions,
) => Promise<EngineAdmin>;
