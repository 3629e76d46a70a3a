/**
 * One HTTP request and its answer, by undici's dispatch: without the stream, the signal and the listeners that its request() makes for each. A fleet is asked
 * while it is paused, and there a tenth of a millisecond an engine is the pause of a large one.
 */
import type { Dispatcher } from 'undici';

export interface AnswerHead {
  readonly status: number;
  readonly contentType: string | null;
}

export interface RoundTrip {
  /** Resolves at the end of the body. Rejects with what undici says, what `take` returned, or the reason of the abort: with that at once. */
  readonly answer: Promise<AnswerHead>;
  /** Ends it, and its connection; a request that waits for one is never sent. */
  abort(reason: Error): void;
}

/** @param take gets the body as it comes; what it returns ends the round trip */
export function roundTrip(
  dispatcher: Dispatcher,
  request: Dispatcher.DispatchOptions,
  take: (chunk: Buffer) => Error | null,
): RoundTrip {
  let ended: { readonly reason: Error } | null = null;
  let controller: Dispatcher.DispatchController | null = null;
  let head: AnswerHead = { status: 0, contentType: null };
  let settle: { resolve(head: AnswerHead): void; reject(error: unknown): void } | null = null;
  const answer = new Promise<AnswerHead>((resolve, reject) => {
    settle = { resolve, reject };
  });
  const abort = (reason: Error): void => {
    ended ??= { reason };
    settle?.reject(reason);
    controller?.abort(reason);
  };
  dispatcher.dispatch(request, {
    onRequestStart: (started) => {
      controller = started;
      if (ended !== null) started.abort(ended.reason);
    },
    onResponseStart: (_, status, headers) => {
      // An informational one (1xx) comes before the answer.
      const contentType = headers['content-type'];
      head = { status, contentType: (Array.isArray(contentType) ? contentType[0] : contentType) ?? null };
    },
    onResponseData: (_, chunk) => {
      if (ended !== null) return;
      const problem = take(chunk);
      if (problem !== null) abort(problem);
    },
    onResponseEnd: () => settle?.resolve(head),
    onResponseError: (_, error) => settle?.reject(error),
  });
  return { answer, abort };
}
