/** What a Dynamo answer that is not success means. The shapes were recorded on 1.6.1 (test/vectors/dynamo). */
import { type ErrorCode, WeightcastError } from '../../errors.js';
import type { PauseMode, Reply } from '../admin.js';
import { isRecord } from '../is-record.js';
import { workerMessage } from '../vllm-native/worker-message.js';

export interface FailedCall {
  readonly engine: string;
  readonly operation: string;
  /** What to do when the route is missing. */
  readonly ifMissing?: string | undefined;
}

const MAX_MESSAGE_CHARS = 2_000;

/** The server's own words: `{message}` of a handler, `{error, message}` of the system port, `{message, type, code}` of the frontend. */
export function serverMessage(reply: Reply): string {
  const { json } = reply;
  const said = isRecord(json)
    ? [json.message, json.error].find((text) => typeof text === 'string')
    : undefined;
  return (typeof said === 'string' ? said : reply.text).trim().slice(0, MAX_MESSAGE_CHARS);
}

interface Meaning {
  readonly code: ErrorCode;
  readonly remedy?: string;
  /** How the engine may be paused after all. */
  readonly fallbackPauseMode?: PauseMode;
}

const NOT_PAUSED: Meaning = {
  code: 'WC_ENGINE_HTTP',
  remedy:
    'Somebody else resumed this worker during the update: let only one coordinator drive it, and push again.',
};
const NOT_DRAINED: Meaning = {
  code: 'WC_ENGINE_HTTP',
  remedy: 'This worker updates only after its requests have drained: use --pause-mode wait (or abort).',
  fallbackPauseMode: 'wait',
};
const NO_ROUTE: Meaning = {
  code: 'WC_ENGINE_NOT_CONFIGURED',
  remedy:
    'Give the system port of a dynamo.vllm worker (DYN_SYSTEM_PORT, started with --enable-rl); a mocker and an older Dynamo have no such route.',
};
const WRONG_RPC: Meaning = {
  code: 'WC_ENGINE_NOT_CONFIGURED',
  remedy:
    "Say what runs inside the worker: rpc=native (vLLM's own weight transfer) or rpc=prime-rl (its worker extension), and vllm=VERSION.",
};

/** By what the server says, in the order in which they are tried. */
const MEANINGS: readonly (readonly [RegExp, Meaning])[] = [
  // vLLM refuses to freeze requests that hold an adapter.
  [/keep mode with active LoRA requests/, { code: 'WC_ENGINE_HTTP', fallbackPauseMode: 'wait' }],
  [/^Worker must be paused via pause_generation/, NOT_PAUSED],
  [/\bdrained\b/, NOT_DRAINED],
  [/requires? (a )?restart|EngineDeadError|EngineCore encountered an issue/, { code: 'WC_ENGINE_DEAD' }],
  [/Weight transfer not configured/, { code: 'WC_ENGINE_NOT_CONFIGURED' }],
  [/unsupported engine (control|update)|is not implemented$/, NO_ROUTE],
  [/got an unexpected keyword argument|missing \d+ required|object has no attribute/, WRONG_RPC],
];

function meaningOf({ status }: Reply, message: string): Meaning {
  if (status === 401 || status === 403) return { code: 'WC_ENGINE_UNAUTHORIZED' };
  if (status === 404 && /not found/i.test(message)) return NO_ROUTE;
  if (status === 400 && /column \d+/.test(message)) return { code: 'WC_ENGINE_PROTOCOL' };
  return MEANINGS.find(([pattern]) => pattern.test(message))?.[1] ?? { code: 'WC_ENGINE_HTTP' };
}

/** The error for an answer that is not success, whatever its status: handlers refuse with 200. */
export function failure(reply: Reply, call: FailedCall): WeightcastError {
  const message = serverMessage(reply);
  const worker = workerMessage(message);
  const { code, remedy, fallbackPauseMode } = meaningOf(reply, message);
  const missing = reply.status === 404 ? call.ifMissing : undefined;
  const words = worker ?? (message === '' ? 'no explanation' : message);
  const answered = reply.status === 200 ? 'refused' : `answered ${reply.status}`;
  return new WeightcastError(code, `${call.operation}: the worker ${answered}: ${words}`, {
    engine: call.engine,
    remedy: missing ?? remedy,
    details: {
      operation: call.operation,
      status: reply.status,
      serverMessage: message,
      refused: true,
      // A handler or a worker that raises does so again.
      transient: reply.status >= 500 && reply.status !== 500,
      ...(fallbackPauseMode === undefined ? {} : { fallbackPauseMode }),
    },
  });
}
