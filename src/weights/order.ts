/** The order in which tensors are sent, and the module that a tensor belongs to. */
import { runToEnd, type Steps } from './yielding.js';

const NUMBER = /^[0-9]{1,9}$/;
/** A module that is a number. */
const NUMBERED = /(?:^|\.)[0-9]{1,9}\./;
const NUMBER_WIDTH = 9;
const TENSORS_PER_STEP = 1024;

interface Named {
  readonly name: string;
}

/** Path of the module that owns a parameter: 'model.layers.3.mlp' for 'model.layers.3.mlp.weight'; '' at the top. */
export function moduleOf(name: string): string {
  const dot = name.lastIndexOf('.');
  return dot < 0 ? '' : name.slice(0, dot);
}

/**
 * Orders tensors as engines like to load them: first what belongs to no layer (embeddings, norms, heads), then layer by layer in
 * numeric order, every module's tensors together, experts in numeric order too. Engines reload layer by layer and keep what they
 * received of an unfinished layer, so a layer that arrives in one piece costs them the least memory. The result depends on the names alone, not on
 * the order they come in.
 *
 * @example
 * ```ts
 * const order = orderForLoading(checkpoint.tensors);
 * ```
 */
export function orderForLoading<T extends Named>(tensors: readonly T[]): T[] {
  return runToEnd(orderSteps(tensors));
}

/** The same, to be run in slices. Layers have the same names inside, so few keys are made and compared as text. */
export function* orderSteps<T extends Named>(tensors: readonly T[]): Steps<T[]> {
  const layers = new Map<string, Layer<T>>();
  const insides = new Map<string, Inside>();
  const layerOf = layerFinder(layers);
  for (const [index, tensor] of tensors.entries()) {
    const { layer, inside } = layerOf(tensor.name);
    let place = insides.get(inside);
    if (place === undefined) {
      place = { key: insideKey(inside), rank: 0 };
      insides.set(inside, place);
    }
    layer.members.push({ tensor, place });
    if (index % TENSORS_PER_STEP === 0) yield;
  }
  yield* rank([...insides.values()]);
  const ordered: T[] = [];
  let sorted = 0;
  for (const { members } of [...layers.values()].sort((a, b) => compare(a.key, b.key))) {
    members.sort((a, b) => a.place.rank - b.place.rank || compare(a.tensor.name, b.tensor.name));
    for (const { tensor } of members) ordered.push(tensor);
    sorted += members.length;
    if (sorted >= TENSORS_PER_STEP) {
      sorted = 0;
      yield;
    }
  }
  return ordered;
}

/** What has the same path up to its first number: one layer, or all that is in none. */
interface Layer<T> {
  readonly key: string;
  readonly members: { readonly tensor: T; readonly place: Inside }[];
}

/** The path behind that, as many layers have it. */
interface Inside {
  readonly key: string;
  rank: number;
}

/** Cuts a name in two and finds its layer. */
function layerFinder<T>(
  layers: Map<string, Layer<T>>,
): (name: string) => { readonly layer: Layer<T>; readonly inside: string } {
  let last: { readonly path: string; readonly layer: Layer<T> } | null = null;
  return (name) => {
    if (last !== null && last.path !== '' && name.startsWith(last.path)) {
      return { layer: last.layer, inside: name.slice(last.path.length) };
    }
    const at = name.search(NUMBERED);
    // Up to and with the dot behind the number.
    const path = at < 0 ? '' : name.slice(0, name.indexOf('.', at + 1) + 1);
    const key = path === '' ? '0' : `1${path.slice(0, -1).split('.').map(padded).join('\0')}`;
    const layer = layers.get(key) ?? { key, members: [] };
    layers.set(key, layer);
    last = { path, layer };
    return { layer, inside: name.slice(path.length) };
  };
}

/** Text that sorts as wanted: a number counts by its value, a module before what is inside it. */
function insideKey(inside: string): string {
  const parts = inside.split('.');
  const leaf = parts.pop() as string;
  return `${parts.map((part) => `\0${padded(part)}`).join('')}\0\0${leaf}`;
}

function padded(part: string): string {
  return NUMBER.test(part) ? part.padStart(NUMBER_WIDTH, '0') : part;
}

/** Equal keys have equal ranks. */
function* rank(places: Inside[]): Steps<void> {
  places.sort((a, b) => compare(a.key, b.key));
  yield;
  let before: Inside | null = null;
  for (const place of places) {
    if (before !== null) place.rank = before.key === place.key ? before.rank : before.rank + 1;
    before = place;
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
