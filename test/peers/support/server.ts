import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { answers, freePort, startGroup, untilReady } from './group.js';
import type { PythonEnvironment } from './venv.js';

const plugin = fileURLToPath(new URL('plugin', import.meta.url));
const repository = fileURLToPath(new URL('../../..', import.meta.url));

/** The emulated libraries that the build leaves. */
export const emulatedNccl = join(repository, 'build/emulator/libnccl.so.2');
export const emulatedCuda = join(repository, 'build/emulator/libcuda.so.1');

export interface VllmOptions {
  readonly python: PythonEnvironment;
  /** Directory of the model to serve first. */
  readonly model: string;
  /** Number of workers; default 1. */
  readonly tensorParallel?: number;
  /** A backend starts it ready for weight transfer, over the emulated libnccl; 'none' as a plain server with dev mode. */
  readonly transfer: 'nccl' | 'sparse_nccl' | 'none';
  /** Default: a free port. */
  readonly port?: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** 35 to 110 s on two idle cores; 250 s was seen on loaded ones. */
const START_TIMEOUT_MS = 480_000;

export interface VllmServer {
  readonly url: string;
  readonly port: number;
  readonly model: string;
  readonly workers: number;
  /** What it printed so far. */
  log(): string;
  /** Ends every process of it, and waits until they are gone. Safe to call twice. */
  stop(): Promise<void>;
}

/** A vLLM on a few cores and the loopback. */
export const smallVllm = {
  VLLM_CPU_KVCACHE_SPACE: '1',
  VLLM_CPU_OMP_THREADS_BIND: 'nobind',
  VLLM_HOST_IP: '127.0.0.1',
  VLLM_NO_USAGE_STATS: '1',
  HF_HUB_OFFLINE: '1',
  OMP_NUM_THREADS: '1',
} as const;

/** Its workers receive over the emulated libnccl. */
export const emulatedTransfer = { PYTHONPATH: plugin, VLLM_NCCL_SO_PATH: emulatedNccl } as const;

function environment(options: VllmOptions): Record<string, string> {
  return {
    ...smallVllm,
    VLLM_SERVER_DEV_MODE: '1',
    ...(options.transfer === 'none' ? {} : emulatedTransfer),
    ...options.env,
  };
}

/** Starts a real vLLM server on the loopback and waits until it is healthy. @throws Error with the end of its log. */
export async function startVllm(options: VllmOptions): Promise<VllmServer> {
  const { python, model, tensorParallel = 1 } = options;
  const port = options.port ?? (await freePort());
  const serve = ['--host', '127.0.0.1', '--port', String(port), '--model', model];
  const small = ['--enforce-eager', '--max-model-len', '128', '--max-num-seqs', '4', '--dtype', 'bfloat16'];
  const parallel = tensorParallel === 1 ? [] : ['--tensor-parallel-size', String(tensorParallel)];
  const backend = JSON.stringify({ backend: options.transfer });
  const transfer = options.transfer === 'none' ? [] : ['--weight-transfer-config', backend];
  const command = [python.python, '-m', 'vllm.entrypoints.openai.api_server', ...serve, ...small];

  const group = await startGroup([...command, ...parallel, ...transfer], { env: environment(options) });
  const url = `http://127.0.0.1:${port}`;
  await untilReady('vLLM', group, START_TIMEOUT_MS, () => answers(`${url}/health`));
  return { url, port, model, workers: tensorParallel, log: group.log, stop: group.stop };
}
