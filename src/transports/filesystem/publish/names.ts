/** What the files of a version are called, so that engines load them. */

export const INDEX_NAME = 'model.safetensors.index.json';
export const ADAPTER_NAME = 'adapter_model.safetensors';
export const ADAPTER_CONFIG_NAME = 'adapter_config.json';
const SINGLE_NAME = 'model.safetensors';

/**
 * Names of `count` shards as Hugging Face has them. With a nonce no two publications have a file in common, for where nothing can be renamed.
 *
 * @example shardNames(2, null) // ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
 */
export function shardNames(count: number, nonce: string | null): readonly string[] {
  if (count === 1 && nonce === null) return [SINGLE_NAME];
  const stem = nonce === null ? 'model' : `model-${nonce}`;
  const number = (value: number) => String(value).padStart(5, '0');
  return Array.from({ length: count }, (_, i) => `${stem}-${number(i + 1)}-of-${number(count)}.safetensors`);
}
