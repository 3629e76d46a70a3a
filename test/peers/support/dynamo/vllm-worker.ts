import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { answers, freePort, type ProcessGroup, startGroup, untilReady } from '../group.js';
import { emulatedTransfer, smallVllm } from '../server.js';
import type { PythonEnvironment } from '../venv.js';
import type { Plane } from './plane.js';

/** 94 to 137 s on two idle cores. */
const START_TIMEOUT_MS = 600_000;

export interface VllmWorkerOptions {
  readonly python: PythonEnvironment;
  readonly plane: Plane;
  readonly model: string;
  readonly namespace: string;
  /** With adapters vLLM's CPU build dies of a request for prompt_logprobs (an einsum in its sampler). */
  readonly lora: boolean;
  readonly env?: Readonly<Record<string, string>>;
}

export interface VllmWorker {
  readonly group: ProcessGroup;
  readonly systemUrl: string;
}

/** Starts NVIDIA's own worker over the CPU build of vLLM, ready for NCCL and adapters, and waits until it is healthy. */
export async function startVllmWorker(options: VllmWorkerOptions): Promise<VllmWorker> {
  const port = await freePort('below 32768');
  const small = ['--enforce-eager', '--max-model-len', '256', '--max-num-seqs', '4', '--dtype', 'bfloat16'];
  const group = await startGroup(
    [
      ...[
        options.python.python,
        '-m',
        'dynamo.vllm',
        '--model',
        options.model,
        '--served-model-name',
        'tiny',
      ],
      ...[...small, '--enable-rl', '--weight-transfer-config', '{"backend":"nccl"}'],
      ...(options.lora ? ['--enable-lora', '--max-loras', '2', '--max-lora-rank', '8'] : []),
    ],
    {
      env: {
        ...smallVllm,
        ...emulatedTransfer,
        ...options.plane.env,
        DYN_NAMESPACE: options.namespace,
        DYN_SYSTEM_PORT: String(port),
        DYN_LORA_ENABLED: String(options.lora),
        ...options.env,
      },
      graceMs: 20_000,
    },
  );
  const systemUrl = `http://127.0.0.1:${port}`;
  await untilReady('dynamo.vllm', group, START_TIMEOUT_MS, () => answers(`${systemUrl}/health`));
  return { group, systemUrl };
}

/** A copy of a model with the chat template that a frontend wants. */
export async function withChatTemplate(model: string, copy: string): Promise<void> {
  await cp(model, copy, { recursive: true });
  const file = join(copy, 'tokenizer_config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  config.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}";
  await writeFile(file, JSON.stringify(config));
}
