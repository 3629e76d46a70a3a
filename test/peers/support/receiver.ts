import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { emulatedNccl } from './server.js';

const script = fileURLToPath(new URL('receiver.py', import.meta.url));

/** worker → tensor → what arrived */
export type Received = Record<
  string,
  Record<string, { readonly dtype: string; readonly shape: readonly number[]; readonly sha256: string }>
>;

export interface Receiver extends AsyncDisposable {
  readonly url: string;
  received(): Promise<Received>;
  isPaused(): Promise<boolean>;
}

/** Starts receiver.py as a vLLM of this version with so many ranks. */
export async function startReceiver(version: string, workers: number): Promise<Receiver> {
  const args = [script, '--version', version, '--workers', String(workers), '--library', emulatedNccl];
  const child = spawn('python3', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const first = (await Promise.race([
    once(child.stdout.setEncoding('utf8'), 'data'),
    exited.then(([code]) => Promise.reject(new Error(`receiver.py ended with ${code}`))),
  ])) as [string];
  const url = `http://127.0.0.1:${(JSON.parse(first[0]) as { port: number }).port}`;
  const get = async (path: string) => (await fetch(url + path)).json();
  return {
    url,
    received: () => get('/received') as Promise<Received>,
    isPaused: async () => ((await get('/is_paused')) as { is_paused: boolean }).is_paused,
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await exited;
    },
  };
}
