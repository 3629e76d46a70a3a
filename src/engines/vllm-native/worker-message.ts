/** What a worker of vLLM's said, out of what its executor makes of it. */

const WORKER_FAILURE = /^Call to \w+ method failed: ([\s\S]*)$/;
const WORKER_QUOTE =
  /^Worker failed with error '([\s\S]*)', please check the stack trace above for the root cause$/;

/** The worker's own words out of what the engine core wraps around them; null when no worker spoke. */
export function workerMessage(message: string): string | null {
  const wrapped = WORKER_FAILURE.exec(message)?.[1];
  return wrapped === undefined ? null : (WORKER_QUOTE.exec(wrapped)?.[1] ?? wrapped);
}
