/** How engines name what a checkpoint names otherwise. Add a line to teach another fused module. */
import type { Steps } from '../yielding.js';

const NAMES_PER_STEP = 2048;

export interface FusedGroup {
  /** Name of the engine's module. */
  readonly fused: string;
  /** Modules of the checkpoint whose rows it concatenates, in order. */
  readonly parts: readonly string[];
  /** Parts after the first may be held by several workers alike (fewer key and value heads than workers). */
  readonly replicates: boolean;
}

export const FUSED_GROUPS: readonly FusedGroup[] = [
  { fused: 'qkv_proj', parts: ['q_proj', 'k_proj', 'v_proj'], replicates: true },
  { fused: 'gate_up_proj', parts: ['gate_proj', 'up_proj'], replicates: false },
  { fused: 'gate_up_proj', parts: ['w1', 'w3'], replicates: false },
  { fused: 'fused_qkv_a_proj', parts: ['q_a_proj', 'kv_a_proj_with_mqa'], replicates: false },
];

const EMBEDDINGS: ReadonlySet<string> = new Set(['embed_tokens', 'word_embeddings', 'wte', 'embed_in']);
const WEIGHT = '.weight';

/** The module right above a weight: 'lm_head' for 'lm_head.weight' and 'model.lm_head.weight'; null for what is no weight. */
function weightOwner(name: string): string | null {
  if (!name.endsWith(WEIGHT)) return null;
  const end = name.length - WEIGHT.length;
  return name.slice(name.lastIndexOf('.', end - 1) + 1, end);
}

export function isVocabulary(name: string): boolean {
  const owner = weightOwner(name) ?? '';
  return owner === 'lm_head' || EMBEDDINGS.has(owner);
}

/** Tied embeddings: a checkpoint that has one of the two stands for both names. */
export function* tiedNames(names: readonly string[]): Steps<ReadonlyMap<string, string>> {
  let embedding: string | undefined;
  let head: string | undefined;
  for (const [index, name] of names.entries()) {
    if (index % NAMES_PER_STEP === 0) yield;
    const owner = weightOwner(name);
    if (owner === null) continue;
    if (owner === 'lm_head') head ??= name;
    else if (EMBEDDINGS.has(owner)) embedding ??= name;
    if (head !== undefined && embedding !== undefined) return new Map();
  }
  if (embedding !== undefined) return new Map([[embedding, 'lm_head.weight']]);
  return head === undefined ? new Map() : new Map([[head, 'model.embed_tokens.weight']]);
}

/** A layer that can take LoRA adapters is wrapped: its own parameters are named under base_layer (vLLM with --enable-lora). */
function unwrapped(parameter: string): string {
  return parameter.replaceAll('.base_layer.', '.');
}

/** The part of a worker's key 'dp0:pp0:pcp0:tp1' that decides which slice it holds; null when the key does not say. */
export function tensorParallelRank(worker: string): number | null {
  const match = /(?:^|:)tp([0-9]{1,5})(?::|$)/.exec(worker);
  return match === null ? null : Number(match[1]);
}

/**
 * Where in the model a parameter sits, without the prefix that engines and checkpoints choose differently (vision-language models:
 * 'model.language_model.layers.3.…' and 'language_model.model.layers.3.…' are both 'layers.3.…').
 */
function placeOf(name: string): string {
  const parts = name.split('.');
  const number = parts.findIndex((part) => /^[0-9]+$/.test(part));
  return parts.slice(number > 0 ? number - 1 : -2).join('.');
}

export interface Resolved {
  /** The plan's name for the parameter. */
  readonly name: string;
  /** False when only the place is the same: then the bytes decide, and a difference accuses nobody. */
  readonly certain: boolean;
}

/** Finds a reported parameter among the plan's: by its name, or by its place where no other has the same. */
export function resolver(names: Iterable<string>): (reported: string) => Resolved | null {
  const known = new Set(names);
  let places: Map<string, string | null> | null = null;
  return (reported) => {
    const name = unwrapped(reported);
    if (known.has(name)) return { name, certain: true };
    if (places === null) {
      places = new Map();
      for (const other of known) {
        const place = placeOf(other);
        places.set(place, places.has(place) ? null : other);
      }
    }
    const found = places.get(placeOf(name)) ?? null;
    return found === null ? null : { name: found, certain: false };
  };
}
