/** Answers as vLLM gives them: bodies of success and of every kind of error, by version. */
import type { Profile } from './profile.js';

/** One HTTP answer. `body` null is an empty body, a string plain text, anything else JSON. */
export interface Answer {
  readonly status: number;
  /** null sends no content-type header. */
  readonly contentType: string | null;
  readonly body: unknown;
}

export const json = (body: unknown, status = 200): Answer => ({
  status,
  contentType: 'application/json',
  body,
});

export const empty = (status = 200): Answer => ({ status, contentType: null, body: null });

export const NOT_FOUND = json({ detail: 'Not Found' }, 404);
export const METHOD_NOT_ALLOWED = json({ detail: 'Method Not Allowed' }, 405);
export const UNAUTHORIZED = json({ error: 'Unauthorized' }, 401);

/** vLLM's error object; `type` is the HTTP phrase where FastAPI raised it, a name where vLLM did. */
export function failure(status: number, type: string, message: string, param: string | null = null): Answer {
  return json({ error: { message, type, param, code: status } }, status);
}

export const badRequest = (message: string): Answer => failure(400, 'Bad Request', message);

/** An exception in the API process: 0.16 says nothing, later versions its message. */
export function serverError(profile: Profile, message: string): Answer {
  if (profile.workerErrors === 'text') {
    return { status: 500, contentType: 'text/plain; charset=utf-8', body: 'Internal Server Error' };
  }
  return failure(500, 'InternalServerError', message);
}

/** An exception in a worker, as it arrives at the API process through collective_rpc, or under the name of the engine's own method. */
export function workerFailure(profile: Profile, message: string, method = 'collective_rpc'): Answer {
  const inner =
    profile.workerErrors === 'wrapped'
      ? `Worker failed with error '${message}', please check the stack trace above for the root cause`
      : message;
  return serverError(profile, `Call to ${method} method failed: ${inner}`);
}

export const engineDead = (profile: Profile): Answer => serverError(profile, profile.deadMessage);
