/** The same requests as an update makes in its pause, by undici alone: nothing is checked, timed or written down. */
import { Agent } from 'undici';

/** Paths and bodies: what one engine is asked, one after the other, at the same time as all others; the next group begins when all have answered. */
export type Requests = readonly (readonly [path: string, body: string | null])[];
export const PAUSE: Requests = [['/pause?mode=keep&clear_cache=true', null]];
export const RESUME: Requests = [['/resume', null]];

export interface Load {
  readonly directory: string;
  readonly version: string;
}

export const transferOf = ({ directory, version }: Load): Requests => [
  ['/collective_rpc', JSON.stringify({ method: 'reload_weights', kwargs: { weights_path: directory } })],
  ['/update_weight_version', JSON.stringify({ new_version: version })],
];

/** Milliseconds. */
export interface PauseTimes {
  /** From the first pause request to the last answer. */
  readonly pause: number;
  /** From the first resume request to the last answer. */
  readonly resume: number;
  /** From the first pause request to the last answer to a resume. */
  readonly whole: number;
}

export interface Bare {
  run(): Promise<PauseTimes>;
  close(): Promise<void>;
}

export function bareFanOut(urls: readonly string[], load: Load): Bare {
  // As the client of src/engines/http.ts has it.
  const agent = new Agent({
    pipelining: 1,
    connections: 32,
    keepAliveTimeout: 2_000,
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  const transfer = transferOf(load);
  const ask = async (origin: string, path: string, body: string | null, method: 'GET' | 'POST' = 'POST') => {
    const headers = { 'content-type': 'application/json' };
    const response = await agent.request({ origin, path, method, headers, body });
    JSON.parse(await response.body.text());
  };
  const all = async (requests: Requests): Promise<number> => {
    const began = performance.now();
    await Promise.all(
      urls.map(async (url) => {
        for (const [path, body] of requests) await ask(url, path, body);
      }),
    );
    return performance.now() - began;
  };
  return {
    run: async () => {
      await Promise.all(urls.map((url) => ask(url, '/health', null, 'GET')));
      const began = performance.now();
      const pause = await all(PAUSE);
      await all(transfer);
      const resume = await all(RESUME);
      return { pause, resume, whole: performance.now() - began };
    },
    close: () => agent.destroy(),
  };
}
