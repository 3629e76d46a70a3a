interface Waiting {
  readonly callbacks: Set<() => void>;
  readonly listener: () => void;
}

const waiting = new WeakMap<AbortSignal, Waiting>();

/**
 * Calls back when the signal aborts, until the function that it returns is called. A signal walks through all its listeners to add one and to
 * remove one: the hundreds of requests of a fleet share one here.
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const { callbacks } = waiting.get(signal) ?? begin(signal);
  callbacks.add(callback);
  return () => {
    callbacks.delete(callback);
    const current = waiting.get(signal);
    if (callbacks.size > 0 || current?.callbacks !== callbacks) return;
    waiting.delete(signal);
    signal.removeEventListener('abort', current.listener);
  };
}

function begin(signal: AbortSignal): Waiting {
  const callbacks = new Set<() => void>();
  const listener = () => {
    for (const call of [...callbacks]) call();
  };
  signal.addEventListener('abort', listener, { once: true });
  const begun = { callbacks, listener };
  waiting.set(signal, begun);
  return begun;
}
