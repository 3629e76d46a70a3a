/** Stub engines in another process. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import { fileURLToPath } from 'node:url';

/** What the slowest engine of a round took itself: from a whole request to its answer, by its own clock. */
export interface SlowestMs {
  readonly pause: number;
  readonly resume: number;
}

export interface Stubs extends AsyncDisposable {
  readonly urls: readonly string[];
  /** Begins a round with service times from this seed; without any, engines answer at once. Returns what the slowest took in the round before. */
  round(seed: number): Promise<SlowestMs>;
}

export async function startStubs(engines: number): Promise<Stubs> {
  const script = fileURLToPath(new URL('./engines.js', import.meta.url));
  const child = spawn(process.execPath, [script, String(engines)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exit = once(child, 'exit');
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the stub engines ended');
    return JSON.parse(value);
  };
  const ports = (await next()) as number[];
  return {
    urls: ports.map((port) => `http://127.0.0.1:${port}`),
    round: async (seed) => {
      child.stdin.write(`${seed}\n`);
      return (await next()) as SlowestMs;
    },
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await exit;
    },
  };
}
