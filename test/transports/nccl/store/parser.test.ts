import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DEFAULT_LIMITS, MemoryBudget } from '../../../../src/transports/nccl/store/limits.js';
import { RequestParser } from '../../../../src/transports/nccl/store/parser.js';
import { PREAMBLE } from '../../../../src/transports/nccl/store/protocol.js';
import {
  decodeRequest,
  encodeRequest,
  type StoreRequest,
} from '../../../../src/transports/nccl/store/request.js';
import { StoreState } from '../../../../src/transports/nccl/store/state.js';

const key = fc.constantFrom('/a', '/b', '/c', 'init/', '/', '/\u00ff\u0080');
const value = fc.uint8Array({ maxLength: 40 });
const keys = fc.array(key, { maxLength: 5 });
const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });

const request: fc.Arbitrary<StoreRequest> = fc.oneof(
  fc.record({ kind: fc.constantFrom('set' as const, 'append' as const, 'queuePush' as const), key, value }),
  fc.record({ kind: fc.constant('compareSet' as const), key, expected: value, desired: value }),
  fc.record({
    kind: fc.constantFrom('get' as const, 'deleteKey' as const, 'queuePop' as const, 'queueLength' as const),
    key,
  }),
  fc.record({ kind: fc.constant('add' as const), key, delta: int64 }),
  fc.record({ kind: fc.constant('barrier' as const), key, worldSize: int64 }),
  fc.record({ kind: fc.constantFrom('check' as const, 'wait' as const, 'multiGet' as const), keys }),
  fc.record({
    kind: fc.constant('multiSet' as const),
    entries: fc.array(fc.record({ key, value }), { maxLength: 4 }),
  }),
  fc.record({ kind: fc.constant('ping' as const), nonce: fc.nat() }),
  fc.record({ kind: fc.constantFrom('numKeys' as const, 'cancelWait' as const, 'listKeys' as const) }),
);

/** Runs a connection's bytes through parser and state: every byte replied, and whether it was cut off. */
function serve(chunks: Iterable<Uint8Array>): { replies: string; cut: boolean; memory: number } {
  const state = new StoreState(DEFAULT_LIMITS);
  const parser = new RequestParser(DEFAULT_LIMITS, state.budget);
  const sent: Uint8Array[] = [];
  const peer = {
    reply: (parts: readonly Uint8Array[]) => sent.push(...parts),
    wake: () => sent.push(Uint8Array.of(0)),
  };
  let cut = false;
  try {
    for (const chunk of chunks) {
      parser.append(chunk);
      for (let next = parser.next(); next !== null; next = parser.next()) state.apply(peer, next);
    }
  } catch {
    cut = true;
  }
  parser.close();
  return { replies: Buffer.concat(sent).toString('hex'), cut, memory: state.budget.used };
}

function* split(bytes: Uint8Array, cuts: readonly number[]): Iterable<Uint8Array> {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let start = 0;
  for (const end of [...places, bytes.length]) {
    yield bytes.slice(start, end);
    start = end;
  }
}

test('a request reads back as it was written', () => {
  fc.assert(
    fc.property(request, (written) => {
      expect(decodeRequest(encodeRequest(written))).toEqual(written);
    }),
  );
});

test('any fragmentation of any stream of requests gives the same replies', () => {
  fc.assert(
    fc.property(
      fc.array(request, { maxLength: 25 }),
      fc.array(fc.nat(), { maxLength: 40 }),
      (requests, cuts) => {
        const bytes = Buffer.concat([PREAMBLE, ...requests.map(encodeRequest)]);
        const whole = serve([bytes]);
        expect(serve(split(bytes, cuts))).toEqual(whole);
        expect(serve(Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(whole);
      },
    ),
  );
});

test('arbitrary bytes are answered or cut off alike, however they arrive', () => {
  const noise = fc.array(fc.oneof(fc.uint8Array({ maxLength: 30 }), request.map(encodeRequest)), {
    maxLength: 8,
  });
  fc.assert(
    fc.property(noise, fc.array(fc.nat(), { maxLength: 20 }), (parts, cuts) => {
      const bytes = Buffer.concat([PREAMBLE, ...parts]);
      expect(serve(split(bytes, cuts))).toEqual(serve([bytes]));
    }),
  );
});

test('no request takes effect before its last byte', () => {
  const set = encodeRequest({
    kind: 'multiSet',
    entries: [
      { key: '/a', value: Uint8Array.of(1) },
      { key: '/b', value: Uint8Array.of(2) },
    ],
  });
  const parser = new RequestParser(DEFAULT_LIMITS, new MemoryBudget(1e9));
  parser.append(PREAMBLE);
  for (const byte of set.subarray(0, -1)) {
    parser.append(Uint8Array.of(byte));
    expect(parser.next()).toBeNull();
  }
  parser.append(set.subarray(-1));
  expect(parser.next()?.kind).toBe('multiSet');
});

test('a value that arrives byte by byte costs time in proportion to its length', () => {
  const parser = new RequestParser(DEFAULT_LIMITS, new MemoryBudget(1e9));
  parser.append(PREAMBLE);
  const length = 2 * 1024 * 1024; // quadratic work would be 2 TB of copying
  const bytes = encodeRequest({ kind: 'set', key: '/k', value: new Uint8Array(length).fill(7) });
  const one = new Uint8Array(1);
  let last: StoreRequest | null = null;
  for (const byte of bytes) {
    one[0] = byte;
    parser.append(one);
    last = parser.next();
  }
  expect(last?.kind === 'set' && last.value.length).toBe(length);
});
