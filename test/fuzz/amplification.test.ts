import { describe, expect, test } from 'vitest';
import { parseSettings } from '../../src/config.js';
import { WeightcastError } from '../../src/errors.js';
import { parseRecord } from '../../src/update/claim/record.js';
import { DigestBook } from '../../src/update/digests.js';
import { HeaderError, parseHeader } from '../../src/weights/header.js';
import { candidatesFor } from '../../src/weights/proof.js';
import { parseShardIndex } from '../../src/weights/shard-index.js';
import { tensorOf } from '../weights/files.js';
import { finish } from './targets/target.js';

/** What takes work or memory far beyond its length. Without the limits each took from half a minute to hours at its largest. */
const members = (count: number, value: string): string =>
  Array.from({ length: count }, (_, i) => `"${i.toString(36)}":${value}`).join(',');

const error = (run: () => unknown): Error => {
  try {
    run();
  } catch (thrown) {
    return thrown as Error;
  }
  throw new Error('it was taken');
};

describe('bounded, however much is in it', () => {
  test.each([
    [`{${members(1_001, '0')}}`, /more than 1000 members/],
    [`{"metadata":{${members(1_001, '0')}}}`, /more than 1000 members/],
    [`{"weight_map":{${members(1_000_001, '"f"')}}}`, /more than 1000000 members/],
  ])('an index', { timeout: 120_000 }, (json, message) => {
    const thrown = error(() => finish(parseShardIndex(Buffer.from(json), '/i')));
    expect(thrown).toBeInstanceOf(WeightcastError);
    expect(thrown.message).toMatch(message);
  });

  test.each([
    [`{"a":{${members(1_001, '0')}}}`, /more than 1000 unknown fields/],
    [
      `{"a":{"x":[{${members(60_000, '0')}},{${members(60_000, '0')}}]}}`,
      /more than 100000 keys in one value/,
    ],
    [`{"__metadata__":{${members(100_001, '""')}}}`, /more than 100000 entries/],
  ])('a header', { timeout: 120_000 }, (json, message) => {
    const thrown = error(() => finish(parseHeader(Buffer.from(json), 0)));
    expect(thrown).toBeInstanceOf(HeaderError);
    expect(thrown.message).toMatch(message);
  });

  test('a configuration of unknown keys is answered in a few lines', () => {
    const keys = Array.from({ length: 20_000 }, (_, i) => `a${i} = 1`).join('\n');
    const { message } = error(() => parseSettings(keys, '/f'));
    expect(message).toMatch(/a7: unknown key.*; 19992 more unknown keys$/);
    expect(message.length).toBeLessThan(1_000);
  });

  test('a record of damaged lines leaves every engine in doubt, once', { timeout: 120_000 }, () => {
    const head = {
      weightcast: 1,
      id: 'ab',
      role: 'push',
      holder: { pid: 7, startTicks: 1, bootId: 'b', pidNamespace: 'p', host: 'h' },
      since: 1,
      engines: Array.from({ length: 4096 }, (_, i) => ({ key: `k${i}`, url: 'u' })),
      push: { weights: '/w', version: '1', fallback: 'none', recover: null, verify: 'auto', headerNames: [] },
    };
    const state = JSON.stringify({ event: 'state', states: { 0: 'serving-new' } });
    const read = (lines: string) => parseRecord(`${JSON.stringify(head)}\n${lines}`)!.engines;
    for (const engine of read('x\n'.repeat(1_000_000))) expect(engine.state).toBe('receiving');
    expect(read(`x\n${state}\n`)[0]!.state).toBe('serving-new');
    expect(read(`x\n${state}\nx\n`)[0]!.state).toBe('receiving');
    expect(read(`${state}\n`.repeat(20_001))[0]!.state).toBe('receiving');
  });

  test('an engine that claims tens of thousands of workers costs no list of what they might hold', async () => {
    const tensors = Array.from({ length: 300 }, (_, i) =>
      tensorOf(`model.layers.${i}.w.weight`, 'BF16', [65_536, 1]),
    );
    const book = new DigestBook(
      { path: '/d', files: [], tensors, byteLength: 0, metadata: new Map() },
      { onProgress: () => {}, learned: new Map() },
    );
    expect(book.canPrepare(64)).toBe(true);
    expect(book.canPrepare(65_536)).toBe(false);
    await expect(book.prepare(65_536, new AbortController().signal)).rejects.toMatchObject({
      code: 'WC_VERIFY_MISMATCH',
      message: '300 tensors over 65536 tensor-parallel workers are too many to be proved by digest',
    });
    expect(candidatesFor(tensors, 64).candidates.length).toBeLessThanOrEqual(300 * (2 * 64 + 1));
  });
});
