import { parseShardIndex } from '../../../src/weights/shard-index.js';
import { expectTrue, type FuzzTarget, finish, text, valueOrRefusal } from './target.js';

const index = (value: unknown): Uint8Array => text(JSON.stringify(value));

export const shardIndex: FuzzTarget = {
  name: 'shard-index',
  seeds: () => [
    index({
      metadata: { total_size: 8 },
      weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors' },
    }),
    index({ weight_map: { 'é.\n': 'x' }, other: [1.5e3, true, null, { deep: [[]] }] }),
    text('{"metadata":{"total_size":12.0,"x":{"y":"\\u00e9\\ud83d\\ude00"}},"weight_map":{}}'),
  ],
  run: (input) => {
    const bytes = Buffer.from(input);
    const read = valueOrRefusal(() => finish(parseShardIndex(bytes, '/i')), 'WC_CHECKPOINT_INVALID');
    if (read === null) return;
    const seen = JSON.parse(bytes.toString('utf8')) as {
      weight_map: Record<string, string>;
      metadata?: { total_size?: number } | null;
    };
    const expected = Object.entries(seen.weight_map);
    expectTrue(read.weightMap.size === expected.length, 'other entries than there are');
    for (const [name, file] of expected) {
      expectTrue(read.weightMap.get(name) === file, `another file for ${name}`);
      expectTrue(!/[/\\\0]|^\.{0,2}$/.test(file), `a file outside: ${file}`);
    }
    const total = seen.metadata?.total_size ?? null;
    expectTrue(read.totalSize === total, 'another total');
  },
};
