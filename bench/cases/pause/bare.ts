/** The same requests as an update makes in its pause, by undici alone: nothing is checked, timed or written down. */
import { Agent } from 'undici';

/** Paths and bodies: what one engine is asked, one after the other, at the same time as all others; the next group begins when all have answered. */
export type Requests = readonly (readonly [path: string, body: string | null])[];

export interface Load {
  readonly directory: string;
  readonly version: string;
}

/** Each as its client wants it, in the order in which they are asked. */
export interface Groups<T> {
  readonly pause: T;
  readonly transfer: T;
  readonly resume: T;
}

export const groupsOf = ({ directory, version }: Load): Groups<Requests> => ({
  pause: [['/pause?mode=keep&clear_cache=true', null]],
  transfer: [
    ['/collective_rpc', JSON.stringify({ method: 'reload_weights', kwargs: { weights_path: directory } })],
    ['/update_weight_version', JSON.stringify({ new_version: version })],
  ],
  resume: [['/resume', null]],
});

/** Milliseconds. */
export interface PauseTimes {
  /** From the first pause request to the last answer. */
  readonly pause: number;
  /** From the first resume request to the last answer. */
  readonly resume: number;
  /** From the first pause request to the last answer to a resume. */
  readonly whole: number;
}

/** @param all asks every engine, and gives the milliseconds until the last answer */
export async function timed<T>(
  all: (requests: T) => Promise<number>,
  groups: Groups<T>,
): Promise<PauseTimes> {
  const began = performance.now();
  const pause = await all(groups.pause);
  await all(groups.transfer);
  const resume = await all(groups.resume);
  return { pause, resume, whole: performance.now() - began };
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
  const groups = groupsOf(load);
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
      return timed(all, groups);
    },
    close: () => agent.destroy(),
  };
}
