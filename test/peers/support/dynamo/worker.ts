import { fileURLToPath } from 'node:url';
import { startGroup } from '../group.js';
import type { Received } from '../receiver.js';
import { emulatedNccl } from '../server.js';
import type { PythonEnvironment } from '../venv.js';
import type { Plane } from './plane.js';

const script = fileURLToPath(new URL('worker.py', import.meta.url));

export interface WorkerOptions {
  readonly python: PythonEnvironment;
  readonly plane: Plane;
  /** Directory with a configuration and a tokenizer. */
  readonly model: string;
  /** Default: 'tiny'. */
  readonly modelName?: string;
  /** Default: 'test'. */
  readonly namespace?: string;
  /** GPU workers; default 1. */
  readonly workers?: number;
  readonly lora?: boolean;
  /** Milliseconds that each generated token takes; default 1. */
  readonly tokenMs?: number;
  /** Default: '0', any. */
  readonly systemPort?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts worker.py; it can be found about a second later. */
export function startWorker(options: WorkerOptions) {
  const { python, plane, model, modelName = 'tiny', namespace = 'test', workers = 1, tokenMs = 1 } = options;
  const args = ['--model', model, '--model-name', modelName, '--workers', String(workers)];
  const more = [
    '--library',
    emulatedNccl,
    '--token-ms',
    String(tokenMs),
    ...(options.lora ? ['--lora'] : []),
  ];
  return startGroup([python.python, script, ...args, ...more], {
    env: {
      ...plane.env,
      OPENBLAS_NUM_THREADS: '1',
      DYN_NAMESPACE: namespace,
      DYN_SYSTEM_PORT: options.systemPort ?? '0',
      DYN_LORA_ENABLED: options.lora ? 'true' : 'false',
      ...options.env,
    },
  });
}

/** The answer of `POST <system_url>/engine/<route>`. */
export interface EngineReply {
  readonly status: number;
  readonly contentType: string | null;
  readonly body: Record<string, unknown>;
}

/** Posts to a worker's system port. */
export async function engine(
  systemUrl: string,
  route: string,
  body: object = {},
  timeoutMs = 60_000,
): Promise<EngineReply> {
  const reply = await fetch(`${systemUrl}/engine/${route}`, {
    method: 'POST',
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(timeoutMs),
  });
  const text = await reply.text();
  return {
    status: reply.status,
    contentType: reply.headers.get('content-type'),
    body: JSON.parse(text) as Record<string, unknown>,
  };
}

export interface HeldByWorker {
  readonly ranks: readonly Received[string][];
  /** Directories of its adapters. */
  readonly loras: readonly string[];
  /** Steps of updates that came while its engine took requests. */
  readonly while_serving: readonly string[];
}

/** What each rank of a worker.py holds, and more that it knows of itself. */
export async function received(systemUrl: string): Promise<HeldByWorker> {
  const reply = await engine(systemUrl, 'test/received');
  return reply.body as never;
}
