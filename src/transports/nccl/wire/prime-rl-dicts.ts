/**
 * Which tensors travel together: prime-rl's state dicts (contracts/prime-rl.md 3.2), the first with all that belongs to no layer, then one a layer. The
 * receiver only counts them, so a large one is cut into several, between modules: it needs the memory of one frame at a time, and so do we.
 */
import { moduleOf } from '../../../weights/order.js';
import type { Tensor } from '../../../weights/tensor.js';
import type { Steps } from '../../../weights/yielding.js';

/** Also bounds the pickle of one dict. */
const TENSORS_PER_DICT = 4096;
const TENSORS_PER_STEP = 2048;

const LAYER = /(?:^|\.)layers\.([0-9]{1,9})\./;
const PLAIN_PREFIX = 'model.';

/**
 * The dicts in order. Tensors keep the order that they come in; layers go by their number, and a number that no tensor has makes no dict.
 *
 * @param maxBytes cuts a dict before the module that would make it larger; null keeps prime-rl's own
 */
export function* stateDicts(
  tensors: readonly Tensor[],
  maxBytes: number | null,
): Steps<(readonly Tensor[])[]> {
  const prefix = yield* layerPrefix(tensors);
  const rest: Tensor[] = [];
  const layers = new Map<number, Tensor[]>();
  for (const [index, tensor] of tensors.entries()) {
    if (index % TENSORS_PER_STEP === 0) yield;
    const place = placeOf(tensor.name);
    if (place === null || place.prefix !== prefix) {
      rest.push(tensor);
      continue;
    }
    const layer = layers.get(place.layer);
    if (layer === undefined) layers.set(place.layer, [tensor]);
    else layer.push(tensor);
  }
  const dicts: (readonly Tensor[])[] = [];
  const inOrder = [...layers].sort(([a], [b]) => a - b).map(([, layer]) => layer);
  for (const dict of [rest, ...inOrder]) {
    dicts.push(...(yield* cut(dict, maxBytes ?? Number.POSITIVE_INFINITY)));
    yield;
  }
  return dicts;
}

/**
 * Of a tensor in a layer of the language model: 'model.layers.3.', and in models that also see 'model.language_model.layers.3.', 'language_model.model.layers.3.' …
 * The vision tower's layers are none of those.
 */
function placeOf(name: string): { readonly prefix: string; readonly layer: number } | null {
  const found = LAYER.exec(name);
  if (found === null) return null;
  const prefix = name.slice(0, name.indexOf('layers.', found.index));
  const isLanguage = prefix === PLAIN_PREFIX || prefix.includes('language_model');
  return isLanguage ? { prefix, layer: Number(found[1]) } : null;
}

/** The plain one where there is one, else the one that most tensors have; null when there is none. */
function* layerPrefix(tensors: readonly Tensor[]): Steps<string | null> {
  const counts = new Map<string, number>();
  for (const [index, { name }] of tensors.entries()) {
    if (index % TENSORS_PER_STEP === 0) yield;
    const prefix = placeOf(name)?.prefix;
    if (prefix !== undefined) counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
  }
  if (counts.has(PLAIN_PREFIX)) return PLAIN_PREFIX;
  const [most] = [...counts].sort(([, a], [, b]) => b - a);
  return most?.[0] ?? null;
}

/** Whole modules, as many as fit. */
function* cut(tensors: readonly Tensor[], maxBytes: number): Steps<Tensor[][]> {
  const dicts: Tensor[][] = [];
  let dict: Tensor[] = [];
  let bytes = 0;
  for (const module of modulesOf(tensors)) {
    const moduleBytes = module.reduce((sum, { range }) => sum + range.byteLength, 0);
    const isFull = bytes + moduleBytes > maxBytes || dict.length + module.length > TENSORS_PER_DICT;
    if (isFull && dict.length > 0) {
      dicts.push(dict);
      yield;
      dict = [];
      bytes = 0;
    }
    dict.push(...module);
    bytes += moduleBytes;
  }
  if (dict.length > 0) dicts.push(dict);
  return dicts;
}

/** Neighbours in one module; one with more tensors than a dict may have comes in pieces. */
function* modulesOf(tensors: readonly Tensor[]): Generator<readonly Tensor[]> {
  let from = 0;
  let module = '';
  for (const [index, { name }] of tensors.entries()) {
    const own = moduleOf(name);
    if (index > from && (own !== module || index - from === TENSORS_PER_DICT)) {
      yield tensors.slice(from, index);
      from = index;
    }
    module = own;
  }
  if (from < tensors.length) yield tensors.slice(from);
}
