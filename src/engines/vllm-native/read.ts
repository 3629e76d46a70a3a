/** Readers of answers: 200 is not success, so each looks at the body. Unknown fields pass; wrong types do not. */
import type { Checksums, ModelCard, PromptScore, Reply } from '../admin.js';
import { isRecord } from '../is-record.js';
import { flattenPromptLogprobs } from '../prompt-logprobs.js';
import { wrongBody } from '../wrong-body.js';
import { type FailedCall, failure } from './errors.js';

export type Reader<T> = (reply: Reply, call: FailedCall) => T;

/** Any 200 without an error in its body (0.16 sends errors with 200 on some routes). */
export function succeeded(reply: Reply, call: FailedCall): void {
  if (reply.status !== 200) throw failure(reply, call);
  if (isRecord(reply.json) && reply.json.error !== undefined && reply.json.error !== null) {
    throw failure(reply, call);
  }
}

function field(reply: Reply, call: FailedCall, name: string): unknown {
  succeeded(reply, call);
  return isRecord(reply.json) ? reply.json[name] : undefined;
}

/** A 200 whose `name` is exactly `value`. */
export function says(name: string, value: unknown): Reader<void> {
  return (reply, call) => {
    if (field(reply, call, name) !== value) throw wrongBody(reply, call, JSON.stringify({ [name]: value }));
  };
}

/** Versions and names go into notes and reports. */
const MAX_TEXT_CHARS = 1024;

export function text(name: string): Reader<string> {
  return (reply, call) => {
    const value = field(reply, call, name);
    if (typeof value !== 'string' || value.length > MAX_TEXT_CHARS) {
      throw wrongBody(reply, call, `a string of at most ${MAX_TEXT_CHARS} characters in ${name}`);
    }
    return value;
  };
}

export function flag(name: string): Reader<boolean> {
  return (reply, call) => {
    const value = field(reply, call, name);
    if (typeof value !== 'boolean') throw wrongBody(reply, call, `true or false in ${name}`);
    return value;
  };
}

/** The transfer routes answer with a sentence. */
export const message: Reader<void> = (reply, call) => {
  if (typeof field(reply, call, 'message') !== 'string') throw wrongBody(reply, call, 'a string in message');
};

const MAX_WORKERS = 65_536;

export const worldSize: Reader<number> = (reply, call) => {
  const size = field(reply, call, 'world_size');
  if (typeof size !== 'number' || !Number.isInteger(size) || size < 1 || size > MAX_WORKERS) {
    throw wrongBody(reply, call, 'a number of workers in world_size');
  }
  return size;
};

/** Versions that answer nothing leave it open: null. */
export const resetDone: Reader<boolean | null> = (reply, call) => {
  const done = field(reply, call, 'success');
  if (done === undefined) return null;
  if (typeof done !== 'boolean') throw wrongBody(reply, call, 'true or false in success');
  return done;
};

/**
 * The backend of weight transfer out of /server_info. Only a hint: the route fails where neither pip nor uv is in the server's environment (contracts/vllm.md,
 * error bodies), and says null then; '' when the server was started without any.
 */
export const transferBackend: Reader<string | null> = ({ status, json }) => {
  const config = status === 200 && isRecord(json) ? json.vllm_config : undefined;
  const transfer = isRecord(config) ? config.weight_transfer_config : undefined;
  if (transfer === null) return '';
  const backend = isRecord(transfer) ? transfer.backend : undefined;
  return typeof backend === 'string' ? backend.slice(0, 80) : null;
};

/** One result a worker. */
export const workerResults: Reader<number> = (reply, call) => {
  const results = field(reply, call, 'results');
  if (!Array.isArray(results) || results.length === 0) throw wrongBody(reply, call, 'a list in results');
  return results.length;
};

export const models: Reader<readonly ModelCard[]> = (reply, call) => {
  const data = field(reply, call, 'data');
  if (!Array.isArray(data)) throw wrongBody(reply, call, 'a list in data');
  return data.map((card: unknown) => {
    if (!isRecord(card) || typeof card.id !== 'string' || card.id.length > MAX_TEXT_CHARS) {
      throw wrongBody(reply, call, 'models with an id');
    }
    const { id, root, parent } = card;
    return {
      id,
      root: typeof root === 'string' ? root : null,
      parent: typeof parent === 'string' ? parent : null,
    };
  });
};

const CHECKSUM_KEY = /^((?:[a-z]+\d+:)+)(?![a-z]+\d+:)(.{1,1024})$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** Keys are '<worker>:<parameter>', the worker as 'dp0:pp0:pcp0:tp0'. */
export const checksums: Reader<Checksums> = (reply, call) => {
  const sums = field(reply, call, 'checksums');
  if (!isRecord(sums)) throw wrongBody(reply, call, 'an object in checksums');
  const workers = new Map<string, Map<string, string>>();
  for (const [key, sum] of Object.entries(sums)) {
    const [, prefix, parameter] = CHECKSUM_KEY.exec(key) ?? [];
    if (prefix === undefined || parameter === undefined || typeof sum !== 'string' || !SHA256.test(sum)) {
      throw wrongBody(reply, call, 'SHA-256 sums by worker and parameter');
    }
    const worker = prefix.slice(0, -1);
    const parameters = workers.get(worker) ?? new Map<string, string>();
    workers.set(worker, parameters.set(parameter, sum));
  }
  return workers;
};

const PROCESS_START = /^process_start_time_seconds(?:\{[^}\n]{0,1000}\})?[ \t]+([0-9.eE+-]{1,40})[ \t]*$/m;

/** From the metrics in Prometheus' text format; a server without them, or with several processes, does not say. */
export const processStart: Reader<number | null> = (reply, call) => {
  if (reply.status === 404) return null;
  if (reply.status !== 200) throw failure(reply, call);
  const seconds = Number(PROCESS_START.exec(reply.text)?.[1] ?? Number.NaN);
  return Number.isFinite(seconds) && seconds > 0 ? seconds : null;
};

const RUNNING_REQUESTS = /^vllm:num_requests_running(?:\{[^}\n]{0,1000}\})?[ \t]+([0-9.eE+-]{1,40})[ \t]*$/gm;

/** Summed over the engine cores of the server. */
export const runningRequests: Reader<number | null> = (reply, call) => {
  if (reply.status === 404) return null;
  if (reply.status !== 200) throw failure(reply, call);
  const gauges = [...reply.text.matchAll(RUNNING_REQUESTS)].map(([, value]) => Number(value));
  const sum = gauges.reduce((total, value) => total + value, 0);
  return gauges.length > 0 && Number.isSafeInteger(sum) && sum >= 0 ? sum : null;
};

/** Of each prompt token after the first. */
export function promptScore(tokens: readonly number[]): Reader<PromptScore> {
  return (reply, call) => {
    const choices = field(reply, call, 'choices');
    const choice: unknown = Array.isArray(choices) ? choices[0] : undefined;
    try {
      return flattenPromptLogprobs(tokens, isRecord(choice) ? choice.prompt_logprobs : undefined).slice(1);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw wrongBody(reply, call, `choices[0].prompt_logprobs of every token (${why})`);
    }
  };
}
