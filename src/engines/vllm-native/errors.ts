/** What a vLLM answer that is not success means. Every shape was recorded on real servers (test/vectors/vllm). */
import { type ErrorCode, WeightcastError } from '../../errors.js';
import type { Reply } from '../admin.js';
import { isRecord } from '../is-record.js';
import { workerMessage } from './worker-message.js';

/** What the failed call was, for the message and for the cases where the route decides. */
export interface FailedCall {
  readonly engine: string;
  readonly operation: string;
  /** 'admin' routes exist in development mode only, 'lora' routes when the environment allows them, 'open' ones always. */
  readonly route: 'admin' | 'lora' | 'open';
}

const MAX_MESSAGE_CHARS = 2_000;

/** The server's own words: from every recorded shape of error body, else the start of the text. */
export function serverMessage(reply: Reply): string {
  return (fromJson(reply.json) ?? reply.text.trim()).slice(0, MAX_MESSAGE_CHARS);
}

function fromJson(json: unknown): string | null {
  if (!isRecord(json)) return null;
  const { error, detail, message } = json;
  for (const text of [error, isRecord(error) ? error.message : undefined, detail, message]) {
    if (typeof text === 'string') return text.trim();
  }
  // FastAPI's own shape, before vLLM rewrites it: [{loc, msg}].
  return Array.isArray(detail) ? JSON.stringify(detail) : null;
}

interface Meaning {
  readonly code: ErrorCode;
  readonly remedy?: string;
}

const LORA_REMEDY = 'Start the server with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1.';
/** What a worker of another backend says to the list of a delta. */
const NOT_SPARSE = /Invalid update_info for \w+: .*'num_updates_list'/;
const DENSE_REMEDY = `It does not receive deltas: start it with --weight-transfer-config '{"backend":"sparse_nccl"}', or leave out --delta-from.`;
const SPARSE_REMEDY =
  'It receives deltas only (sparse_nccl): name the version that it holds by --delta-from, or load whole weights by --transport filesystem.';
const TEXT_500_REMEDY = 'vLLM 0.16 gives no reason over HTTP: see the log of the server.';

function meaningOf(reply: Reply, message: string, call: FailedCall): Meaning {
  const { status } = reply;
  if (status === 401) return { code: 'WC_ENGINE_UNAUTHORIZED' };
  if (message.includes('Weight transfer not configured')) return { code: 'WC_ENGINE_NOT_CONFIGURED' };
  if (message.includes('Invalid update_info for SparseNCCLWeightTransferEngine'))
    return { code: 'WC_ENGINE_NOT_CONFIGURED', remedy: SPARSE_REMEDY };
  if (NOT_SPARSE.test(message)) return { code: 'WC_ENGINE_NOT_CONFIGURED', remedy: DENSE_REMEDY };
  if (isDead(status, message, call)) return { code: 'WC_ENGINE_DEAD' };
  if (status === 404 && message === 'Not Found') {
    if (call.route === 'admin') return { code: 'WC_ENGINE_DEV_MODE' };
    if (call.route === 'lora') return { code: 'WC_ENGINE_HTTP', remedy: LORA_REMEDY };
    return { code: 'WC_ENGINE_PROTOCOL' };
  }
  if (status === 500 && message === 'Internal Server Error')
    return { code: 'WC_ENGINE_HTTP', remedy: TEXT_500_REMEDY };
  return { code: 'WC_ENGINE_HTTP' };
}

/** 0.16 to 0.32 name the engine core; 0.33 has one sentence for it; /health answers 503 while the process still lives. */
function isDead(status: number, message: string, call: FailedCall): boolean {
  return (
    message.includes('EngineCore encountered an issue') ||
    message.includes('EngineDeadError') ||
    (status === 500 && message === 'The server had an error while processing your request.') ||
    (status === 503 && call.operation === 'health')
  );
}

/** Said by vLLM's engine to a pause by 'keep' (recorded through Dynamo 1.6.1): it can't freeze requests that hold an adapter. */
const KEEP_REFUSED = /keep mode with active LoRA requests/;

/** The error for an answer that is not success. */
export function failure(reply: Reply, call: FailedCall): WeightcastError {
  const { status } = reply;
  const message = serverMessage(reply);
  const worker = workerMessage(message);
  const { code, remedy } = meaningOf(reply, message, call);
  const keepRefused = KEEP_REFUSED.test(message);
  const words = worker ?? (message === '' ? 'no explanation' : message);
  return new WeightcastError(code, `${call.operation}: the engine answered ${status}: ${words}`, {
    engine: call.engine,
    remedy,
    details: {
      operation: call.operation,
      status,
      serverMessage: message,
      // A worker's exception comes again at the next try.
      transient: status >= 500 && worker === null && !keepRefused,
      ...(keepRefused ? { fallbackPauseMode: 'wait' } : {}),
    },
  });
}
