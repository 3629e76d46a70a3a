import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, tail } from './process.js';
import { buildOnce, type PythonEnvironment, peersCache } from './venv.js';

/** Names of the models that make_model.py writes; 'a', 'b' and the tied 'tied-a' are sharded, the others one file. */
export type ModelName = 'a' | 'b' | 'c' | 'tied-a' | 'tied-b';

/** What is true of one model, computed by the safetensors library and transformers. */
export interface ModelTruth {
  readonly tensors: Readonly<
    Record<string, { readonly dtype: string; readonly shape: readonly number[]; readonly sha256: string }>
  >;
  /** Number of tensor-parallel workers → what the weight checker must say. */
  readonly served: Readonly<Record<number, Readonly<Record<string, string>>>>;
  readonly logprobs: readonly (readonly number[])[];
}

export interface Models {
  /** Directory of a model, as Hugging Face saves it. */
  directory(name: ModelName): string;
  truth(name: ModelName): ModelTruth;
  readonly prompts: readonly (readonly number[])[];
}

const script = fileURLToPath(new URL('make_model.py', import.meta.url));

/** The tiny models, made once and kept in the cache; `python` needs torch, transformers and safetensors. */
export async function makeModels(python: PythonEnvironment): Promise<Models> {
  const key = createHash('sha256')
    .update(await readFile(script))
    .digest('hex')
    .slice(0, 10);
  const root = join(peersCache, `models-${key}`);
  await buildOnce(root, async (draft) => {
    const outcome = await run(python.python, [script, draft], { timeoutMs: 240_000 });
    if (outcome.code !== 0) throw new Error(`make_model.py: ${tail(outcome.stderr, 8)}`);
  });
  const truth = JSON.parse(await readFile(join(root, 'truth.json'), 'utf8')) as {
    prompts: number[][];
    models: Record<ModelName, ModelTruth>;
  };
  return {
    directory: (name) => join(root, name),
    truth: (name) => truth.models[name],
    prompts: truth.prompts,
  };
}
