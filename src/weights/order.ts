/** The order in which tensors are sent, and the module that a tensor belongs to. */

const NUMBER = /^[0-9]{1,9}$/;
const NUMBER_WIDTH = 9;

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
export function orderForLoading<T extends { readonly name: string }>(tensors: readonly T[]): T[] {
  return tensors
    .map((tensor) => ({ tensor, key: sortKey(tensor.name) }))
    .sort((a, b) => compare(a.key, b.key) || compare(a.tensor.name, b.tensor.name))
    .map(({ tensor }) => tensor);
}

/** Text that sorts as wanted: a number counts by its value, a module before what is inside it. */
function sortKey(name: string): string {
  const parts = name.split('.');
  const leaf = parts.pop() as string;
  let layered = false;
  for (let i = 0; i < parts.length; i += 1) {
    const part = parts[i] as string;
    if (!NUMBER.test(part)) continue;
    layered = true;
    parts[i] = part.padStart(NUMBER_WIDTH, '0');
  }
  return `${layered ? '1' : '0'}${parts.join('\0')}\0\0${leaf}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
