/** Readers of answers. They come as text/plain, and a 200 may be a refusal: each reader looks at the body. */
import type { ModelCard, PromptScore, Reply } from '../admin.js';
import { parseBigJson, stringifyBigJson } from '../big-json.js';
import { isRecord } from '../is-record.js';
import { flattenPromptLogprobs } from '../prompt-logprobs.js';
import { wrongBody } from '../wrong-body.js';
import { type FailedCall, failure } from './errors.js';

export type Reader<T> = (reply: Reply, call: FailedCall) => T;

/** The object of an answer that is no refusal in any dialect. */
function accepted(reply: Reply, call: FailedCall): Record<string, unknown> {
  const { status, json } = reply;
  if (status !== 200) throw failure(reply, call);
  if (!isRecord(json)) throw wrongBody(reply, call, 'a JSON object');
  if (json.status === 'error' || json.success === false) throw failure(reply, call);
  return json;
}

/** A 200 whose `name` is one of `values`. */
export function says(name: string, ...values: readonly unknown[]): Reader<void> {
  return (reply, call) => {
    if (!values.includes(accepted(reply, call)[name]))
      throw wrongBody(reply, call, JSON.stringify({ [name]: values[0] }));
  };
}

/** Success, and nothing to know beyond it. */
export function silently(accepted: Reader<void>): Reader<null> {
  return (reply, call) => {
    accepted(reply, call);
    return null;
  };
}

/** SGLang's result, or its allow-listed routes'. */
export const done: Reader<void> = (reply, call) => {
  const { success, status } = accepted(reply, call);
  if (success !== true && status !== 'ok') throw wrongBody(reply, call, 'success or status ok');
};

/** The sidecar's transfer routes answer with vLLM's sentence. */
export const message: Reader<void> = (reply, call) => {
  if (typeof accepted(reply, call).message !== 'string') throw wrongBody(reply, call, 'a string in message');
};

export function flag(name: string): Reader<boolean> {
  return (reply, call) => {
    const value = accepted(reply, call)[name];
    if (typeof value !== 'boolean') throw wrongBody(reply, call, `true or false in ${name}`);
    return value;
  };
}

/** Versions and names go into notes and reports. */
const MAX_TEXT_CHARS = 1024;
/** An untouched worker: 1.6 answers null, older ones this word. */
const UNTOUCHED = 'initial';

/** The version tag, which is any JSON: text as it is, anything else as JSON, u64 included. */
export function versionTag(name: string): Reader<string> {
  return (reply, call) => {
    accepted(reply, call);
    const body = parseBigJson(reply.text);
    const tag = isRecord(body) ? body[name] : undefined;
    if (tag === undefined) throw wrongBody(reply, call, `a weight version in ${name}`);
    const text = typeof tag === 'string' ? tag : tag === null ? UNTOUCHED : stringifyBigJson(tag);
    if (text.length > MAX_TEXT_CHARS)
      throw wrongBody(reply, call, `at most ${MAX_TEXT_CHARS} characters in ${name}`);
    return text;
  };
}

/**
 * Whether an update that names nothing was refused for its missing path (paused) or before that, for not being paused. Nobody is touched either way
 * (dynamo/vllm/handlers.py of 1.6.1: the pause is checked first, under the lock that resumes and updates hold).
 */
export const pausedByRefusal: Reader<boolean> = (reply, call) => {
  const refusal = failure(reply, call);
  const said = String(refusal.details.serverMessage);
  if (reply.status !== 200) throw refusal;
  if (/^Missing 'model_path'/.test(said) || /\bdrained\b/.test(said)) return true;
  if (/^Worker must be paused via pause_generation/.test(said)) return false;
  throw refusal;
};

/** 503 while an endpoint is not ready. */
export const healthy: Reader<void> = (reply, call) => {
  if (reply.status !== 200) throw failure(reply, call);
};

/** @param base goes first: adapters are listed beside it, and nothing tells them apart */
export function models(base: string | null): Reader<readonly ModelCard[]> {
  return (reply, call) => {
    const { data } = accepted(reply, call);
    if (!Array.isArray(data)) throw wrongBody(reply, call, 'a list in data');
    const ids = data.map((card: unknown) => {
      if (!isRecord(card) || typeof card.id !== 'string' || card.id.length > MAX_TEXT_CHARS) {
        throw wrongBody(reply, call, 'models with an id');
      }
      return card.id;
    });
    return modelCards(ids, base);
  };
}

export function modelCards(ids: readonly string[], base: string | null): readonly ModelCard[] {
  const isKnown = base !== null && ids.includes(base);
  return [...ids]
    .sort((one, other) => Number(other === base) - Number(one === base))
    .map((id) => ({ id, root: null, parent: isKnown && id !== base ? base : null }));
}

/** In nvext as f64 where it was asked for, else rounded at the top. */
export function promptScore(tokens: readonly number[], instance: bigint): Reader<PromptScore> {
  return (reply, call) => {
    accepted(reply, call);
    const body = parseBigJson(reply.text);
    const answer = isRecord(body) ? body : {};
    const extra = isRecord(answer.nvext) ? answer.nvext : {};
    requireServedBy(instance, extra, reply, call);
    return flattenPromptLogprobs(tokens, extra.prompt_logprobs ?? answer.prompt_logprobs).slice(1);
  };
}

/** The frontend may route by its own mind, and then the score is another worker's; one that does not say whose it is proves nothing. */
function requireServedBy(
  instance: bigint,
  { worker_id: worker }: Record<string, unknown>,
  reply: Reply,
  call: FailedCall,
): void {
  const served = isRecord(worker) ? worker.decode_worker_id : undefined;
  // An id below 2^53 is a number.
  if (served === instance || (typeof served === 'number' && served === Number(instance))) return;
  const who =
    typeof served === 'bigint' || typeof served === 'number' ? `worker ${served}` : 'nobody says whom';
  throw wrongBody(reply, call, `an answer of worker ${instance}, but the frontend asked ${who}:`);
}
