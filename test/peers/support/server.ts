import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { tail } from './process.js';
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
  /** 'nccl' starts it ready for weight transfer, over the emulated libnccl; 'none' as a plain server with dev mode. */
  readonly transfer: 'nccl' | 'none';
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

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

function environment(options: VllmOptions): Record<string, string | undefined> {
  return {
    ...process.env,
    VLLM_SERVER_DEV_MODE: '1',
    VLLM_CPU_KVCACHE_SPACE: '1',
    VLLM_CPU_OMP_THREADS_BIND: 'nobind',
    VLLM_HOST_IP: '127.0.0.1',
    VLLM_NO_USAGE_STATS: '1',
    HF_HUB_OFFLINE: '1',
    OMP_NUM_THREADS: '1',
    ...(options.transfer === 'nccl' ? { PYTHONPATH: plugin, VLLM_NCCL_SO_PATH: emulatedNccl } : {}),
    ...options.env,
  };
}

/**
 * The group's leader. It ends the group when fd 3 closes, which happens however the test process ends: vLLM's own processes outlive
 * their parent.
 */
const LEADER = '(cat <&3 >/dev/null; kill -KILL 0) & exec 3<&-; "$@" </dev/null; exit $?';

/** Starts a real vLLM server on the loopback and waits until it is healthy. @throws Error with the end of its log. */
export async function startVllm(options: VllmOptions): Promise<VllmServer> {
  const { python, model, tensorParallel = 1 } = options;
  const port = options.port ?? (await freePort());
  const serve = ['--host', '127.0.0.1', '--port', String(port), '--model', model];
  const small = ['--enforce-eager', '--max-model-len', '128', '--max-num-seqs', '4', '--dtype', 'bfloat16'];
  const parallel = tensorParallel === 1 ? [] : ['--tensor-parallel-size', String(tensorParallel)];
  const transfer = options.transfer === 'nccl' ? ['--weight-transfer-config', '{"backend":"nccl"}'] : [];
  const command = [python.python, '-m', 'vllm.entrypoints.openai.api_server', ...serve, ...small];

  const directory = mkdtempSync(join(tmpdir(), 'weightcast-vllm-'));
  const logFile = join(directory, 'server.log');
  const output = openSync(logFile, 'w');
  const child = spawn('sh', ['-c', LEADER, 'sh', ...command, ...parallel, ...transfer], {
    cwd: directory,
    detached: true,
    env: environment(options),
    stdio: ['ignore', output, output, 'pipe'],
  });
  closeSync(output);
  const exited = once(child, 'exit');
  await once(child, 'spawn');
  const pid = child.pid!;
  const url = `http://127.0.0.1:${port}`;
  let ended: string | null = null;
  const log = () => ended ?? readFileSync(logFile, 'utf8');
  const stop = async () => {
    // Told to end, vLLM removes its shared memory (2 s); killed, it leaves it.
    const began = performance.now();
    signalGroup(pid, 'SIGTERM');
    while (signalGroup(pid, performance.now() < began + 8_000 ? 0 : 'SIGKILL')) {
      if (performance.now() > began + 18_000) throw new Error(`processes of group ${pid} do not end`);
      await sleep(50);
    }
    await exited;
    ended ??= log();
    rmSync(directory, { recursive: true, force: true });
  };

  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await isHealthy(url))) {
    const dead = child.exitCode !== null || child.signalCode !== null;
    if (dead || performance.now() > deadline) {
      await stop();
      const what = dead ? 'ended at start' : `was not healthy after ${START_TIMEOUT_MS} ms`;
      throw new Error(`vLLM ${what}:\n${tail(log(), 40)}`);
    }
    await sleep(250);
  }
  return { url, port, model, workers: tensorParallel, log, stop };
}

/** False when the group has no process left. */
function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

async function isHealthy(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/health`, { signal: AbortSignal.timeout(5_000) })).ok;
  } catch {
    return false;
  }
}
