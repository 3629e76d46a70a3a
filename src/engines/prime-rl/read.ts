/** Readers of answers: 200 is not success, so each looks at the body. */
import { WeightcastError } from '../../errors.js';
import type { Reply } from '../admin.js';
import { isRecord } from '../is-record.js';
import { wrongBody } from '../wrong-body.js';
import { type FailedCall, failure } from './errors.js';

export type Reader<T> = (reply: Reply, call: FailedCall) => T;

/** Any 200 without an error in its body. */
export const succeeded: Reader<void> = (reply, call) => {
  const error = isRecord(reply.json) ? reply.json.error : undefined;
  if (reply.status !== 200 || (error !== undefined && error !== null)) throw failure(reply, call);
};

/** 200 with `{"status": …}`. */
export function says(status: string): Reader<void> {
  return (reply, call) => {
    succeeded(reply, call);
    if (!isRecord(reply.json) || reply.json.status !== status) {
      throw wrongBody(reply, call, JSON.stringify({ status }));
    }
  };
}

/** A server without the route is taken for healthy, as prime-rl's client does; nothing else is. */
export const healthy: Reader<void> = (reply, call) => {
  if (reply.status !== 404) succeeded(reply, call);
};

/** vLLM's own 404 is an adapter that is gone already; any other is a server without the route. */
export const unloaded: Reader<void> = (reply, call) => {
  const error = isRecord(reply.json) ? reply.json.error : undefined;
  if (reply.status === 404 && isRecord(error)) return;
  succeeded(reply, call);
};

/** A server that lacks the route never joins: the others would wait for it in the rendezvous, so here it is no warning. */
export const joined: Reader<void> = (reply, call) => {
  if (reply.status === 404) throw cantJoin(call, { operation: call.operation, status: reply.status });
  says('ok')(reply, call);
};

/** prime-rl's routes went missing behind several API servers (its #2199), and a router has none of them. */
export const NO_ROUTE =
  'Pass the address of the engine itself, not of a router; start it with one API server, or with a prime-rl whose API servers all have its routes; or leave it out of this push.';

function cantJoin({ engine }: FailedCall, details: Readonly<Record<string, unknown>>): WeightcastError {
  return new WeightcastError(
    'WC_ENGINE_NOT_CONFIGURED',
    'init_broadcaster: the server has no such route, so its workers can receive nothing by NCCL',
    { engine, remedy: NO_ROUTE, details },
  );
}
