/** What an answer of a prime-rl server that is not success means. Its own routes catch nothing: bodies are vLLM's, of any of its versions. */
import { type ErrorCode, WeightcastError } from '../../errors.js';
import type { Reply } from '../admin.js';
import { serverMessage } from '../vllm-native/errors.js';
import { workerMessage } from '../vllm-native/worker-message.js';

export interface FailedCall {
  readonly engine: string;
  readonly operation: string;
  /** What to do when it fails; null: as the table of errors says. */
  readonly remedy: string | null;
}

/** The error for an answer that is not success. */
export function failure(reply: Reply, { engine, operation, remedy }: FailedCall): WeightcastError {
  const { status } = reply;
  const message = serverMessage(reply);
  const words = workerMessage(message) ?? (message === '' ? 'no explanation' : message);
  const code = codeOf(reply, message, operation);
  return new WeightcastError(code, `${operation}: the engine answered ${status}: ${words}`, {
    engine,
    remedy: code === 'WC_ENGINE_HTTP' ? (remedy ?? undefined) : undefined,
    // A file that is not visible yet is a worker's exception: any 5xx is worth another try, where trying is safe.
    details: { operation, status, serverMessage: message },
  });
}

function codeOf({ status }: Reply, message: string, operation: string): ErrorCode {
  if (status === 401 || status === 403) return 'WC_ENGINE_UNAUTHORIZED';
  const isDead = message.includes('EngineDeadError') || message.includes('EngineCore encountered an issue');
  if (isDead || (status === 503 && operation === 'health')) return 'WC_ENGINE_DEAD';
  return 'WC_ENGINE_HTTP';
}
