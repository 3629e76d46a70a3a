/**
 * LoRA adapters under a name for each version. vLLM's prefix cache knows adapters by name only, so weights that change under one name are answered from a
 * stale cache (contracts: vLLM, measured on 0.28 and 0.30); a new name can't be stale, and requests that run keep the version they began with.
 */
import { access } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import { holdPublished } from '../transports/filesystem/published/hold.js';

export interface AdapterOptions {
  /** The adapter's own name: 'policy' is served as 'policy-v17'. */
  readonly name: string;
  readonly version: string;
  readonly signal?: AbortSignal;
}

export interface AdapterReport {
  /** The model name that requests use from now on. */
  readonly servedAs: string;
  /** The version before, which was unloaded; null for the first. */
  readonly replaced: string | null;
  readonly notes: readonly string[];
}

const FILES = ['adapter_config.json', 'adapter_model.safetensors'];

/**
 * Loads an adapter directory, which every engine must see under the same path, on all engines; then unloads the version before. If one engine refuses,
 * the others let go of it again: no version is served by a part of the fleet.
 *
 * @throws WeightcastError WC_CHECKPOINT_NOT_FOUND, WC_CONFIG_INVALID, of a published version what {@link holdPublished} throws, and what an engine answers
 */
export async function loadAdapter(
  engines: readonly EngineLink[],
  directory: string,
  options: AdapterOptions & { readonly previous: string | null },
): Promise<AdapterReport> {
  const { signal, previous } = options;
  const servedAs = adapterName(options.name, options.version);
  if (servedAs === previous) {
    throw new WeightcastError('WC_CONFIG_INVALID', `adapter ${servedAs} is already served`, {
      remedy: 'Give every version of an adapter a version of its own.',
    });
  }
  const path = resolve(directory);
  await using _ = await holdPublished(path, { signal });
  await requireFiles(path);
  const { done, failed } = await onAll(engines, (engine) =>
    engine.call(engine.admin.loadLoraAdapter({ name: servedAs, path }), { signal }),
  );
  const [first] = failed;
  if (first !== undefined) {
    await unload(
      engines.filter((engine) => done.has(engine.id)),
      servedAs,
    );
    throw asWeightcastError(first[1], 'WC_ENGINE_HTTP', { engine: first[0], phase: 'transfer' });
  }
  const notes = previous === null ? [] : await unload(engines, previous);
  return { servedAs, replaced: previous, notes };
}

/** 'policy' and '17' make 'policy-v17'. */
export function adapterName(name: string, version: string): string {
  if (!/^[\w.-]{1,128}$/.test(name) || !/^[\w.-]{1,64}$/.test(version)) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      `an adapter's name and version are letters, digits, '.', '_' and '-'`,
    );
  }
  return `${name}-v${version}`;
}

async function requireFiles(directory: string): Promise<void> {
  for (const file of FILES) {
    await access(join(directory, file)).catch((cause: unknown) => {
      throw new WeightcastError('WC_CHECKPOINT_NOT_FOUND', `${directory} has no ${file}`, {
        cause,
        remedy: `Pass an adapter directory, as peft saves it: ${FILES.join(' and ')}.`,
      });
    });
  }
}

async function unload(engines: readonly EngineLink[], name: string): Promise<string[]> {
  const { failed } = await onAll(engines, (engine) => engine.call(engine.admin.unloadLoraAdapter({ name })));
  return [...failed].map(([id, error]) => `${id}: ${name} could not be unloaded: ${String(error)}`);
}
