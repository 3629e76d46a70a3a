import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { emulatedNccl } from './server.js';
import type { PythonEnvironment } from './venv.js';

const script = fileURLToPath(new URL('prime_rl_server.py', import.meta.url));
const plugin = fileURLToPath(new URL('plugin', import.meta.url));

/** What one worker holds after its last update. */
export interface PeerWorker {
  readonly tensors: Readonly<
    Record<string, { readonly dtype: string; readonly shape: readonly number[]; readonly sha256: string }>
  >;
  /** Bytes of each broadcast, in order. */
  readonly frames: readonly number[];
}

export interface PeerState {
  readonly workers: readonly PeerWorker[];
  readonly paused: boolean;
  /** Every POST, in order: path with query, body. */
  readonly log: readonly (readonly [path: string, body: string])[];
}

export interface PrimeRlServer extends AsyncDisposable {
  readonly url: string;
  readonly workers: number;
  state(): Promise<PeerState>;
}

/** Starts prime_rl_server.py; `python` needs vLLM. */
export async function startPrimeRl(python: PythonEnvironment, workers: number): Promise<PrimeRlServer> {
  const child = spawn(python.python, [script, '--workers', String(workers)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {
      ...process.env,
      PYTHONPATH: plugin,
      VLLM_NCCL_SO_PATH: emulatedNccl,
      VLLM_LOGGING_LEVEL: 'ERROR',
      OMP_NUM_THREADS: '1',
      // Compiled once, not at every start.
      PYTHONDONTWRITEBYTECODE: '',
      TORCHDYNAMO_DISABLE: '1',
    },
  });
  const exited = once(child, 'exit');
  const first = (await Promise.race([
    once(child.stdout.setEncoding('utf8'), 'data'),
    exited.then(([code]) => Promise.reject(new Error(`prime_rl_server.py ended with ${code}`))),
  ])) as [string];
  const url = `http://127.0.0.1:${(JSON.parse(first[0]) as { port: number }).port}`;
  return {
    url,
    workers,
    state: async () => (await (await fetch(`${url}/received`)).json()) as PeerState,
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await exited;
    },
  };
}
