import { expect, test } from 'vitest';
import { callRoll, type ExpectedWorker } from '../../../../src/transports/nccl/rendezvous/roll-call.js';

const workers = (...engines: [engine: string, count: number][]): ExpectedWorker[] =>
  engines
    .flatMap(([engine, count]) => Array.from({ length: count }, () => engine))
    .map((engine, index) => ({ rank: index + 1, engine }));

const at = (addresses: Readonly<Record<string, string>>): Map<string, Set<string>> =>
  new Map(Object.entries(addresses).map(([engine, address]) => [engine, new Set([address])]));

const TWO = workers(['http://a:8000', 2], ['http://b:8000', 2]);
const APART = at({ 'http://a:8000': '10.0.0.1', 'http://b:8000': '10.0.0.2' });
const TOGETHER = at({ 'http://a:8000': '127.0.0.1', 'http://b:8000': '127.0.0.1' });

test.each([
  {
    case: 'an engine of its own host that is missing is named with its ranks',
    joinedFrom: ['10.0.0.1', '10.0.0.1'],
    engineAddresses: APART,
    message: '2 of 4 workers joined; missing: http://b:8000 (ranks 3-4)',
    missingEngines: ['http://b:8000'],
  },
  {
    case: 'of an engine that came in part the number is said, since ranks are not known',
    joinedFrom: ['10.0.0.1', '10.0.0.2', '10.0.0.2'],
    engineAddresses: APART,
    message: '3 of 4 workers joined; missing: 1 of the workers of http://a:8000 (ranks 1-2)',
    missingEngines: ['http://a:8000'],
  },
  {
    case: 'nobody is missing by name when engines share an address',
    joinedFrom: ['127.0.0.1', '127.0.0.1', '127.0.0.1'],
    engineAddresses: TOGETHER,
    message:
      '3 of 4 workers joined; missing: 1 of the workers of http://a:8000 (ranks 1-2), http://b:8000 (ranks 3-4)',
    missingEngines: null,
  },
  {
    case: 'all are missing when nobody came, wherever they live',
    joinedFrom: [],
    engineAddresses: new Map(),
    message: '0 of 4 workers joined; engines expected: http://a:8000 (ranks 1-2), http://b:8000 (ranks 3-4)',
    missingEngines: ['http://a:8000', 'http://b:8000'],
  },
  {
    case: 'a worker from an unknown address makes guessing unsafe, so it is shown',
    joinedFrom: ['10.0.0.1', '10.9.9.9'],
    engineAddresses: APART,
    message:
      '2 of 4 workers joined (from 10.0.0.1, 10.9.9.9); engines expected: http://a:8000 (ranks 1-2), http://b:8000 (ranks 3-4)',
    missingEngines: null,
  },
  {
    case: 'an engine whose address is unknown makes it unsafe too',
    joinedFrom: ['10.0.0.1', '10.0.0.1'],
    engineAddresses: at({ 'http://a:8000': '10.0.0.1' }),
    message:
      '2 of 4 workers joined (from 10.0.0.1); engines expected: http://a:8000 (ranks 1-2), http://b:8000 (ranks 3-4)',
    missingEngines: null,
  },
  {
    case: 'all came',
    joinedFrom: ['10.0.0.1', '10.0.0.2', '10.0.0.2', '10.0.0.1'],
    engineAddresses: APART,
    message: '4 of 4 workers joined',
    missingEngines: [],
  },
])('$case', ({ joinedFrom, engineAddresses, message, missingEngines }) => {
  expect(callRoll({ expected: TWO, joinedFrom, engineAddresses })).toEqual({ message, missingEngines });
});

test('ranks with holes are listed as spans', () => {
  const expected = [5, 1, 2, 9].map((rank) => ({ rank, engine: 'e' }));
  const { message } = callRoll({ expected, joinedFrom: [], engineAddresses: new Map() });
  expect(message).toBe('0 of 4 workers joined; engines expected: e (ranks 1-2, 5, 9)');
});

test('two names of one host are one host', () => {
  const expected = workers(['a', 1], ['b', 1], ['c', 1]);
  const engineAddresses = new Map([
    ['a', new Set(['10.0.0.1'])],
    ['b', new Set(['10.0.0.2'])],
    ['c', new Set(['10.0.0.1', '10.0.0.2'])],
  ]);
  expect(callRoll({ expected, joinedFrom: ['10.0.0.1', '10.0.0.1'], engineAddresses })).toEqual({
    message: '2 of 3 workers joined; missing: 1 of the workers of a (rank 1), b (rank 2), c (rank 3)',
    missingEngines: null,
  });
});

test('a message about a large fleet stays short', () => {
  const expected = Array.from({ length: 1000 }, (_, i) => ({
    rank: i + 1,
    engine: `http://10.0.${i >> 8}.${i & 255}`,
  }));
  const engineAddresses = new Map(expected.map(({ engine }) => [engine, new Set([engine.slice(7)])]));
  const joinedFrom = ['10.0.0.3'];
  const roll = callRoll({ expected, joinedFrom, engineAddresses });
  expect(roll.message).toMatch(
    /^1 of 1000 workers joined; missing: http:\/\/10\.0\.0\.0 \(rank 1\), .* and 991 more$/,
  );
  expect(roll.message.length).toBeLessThan(400);
  expect(roll.missingEngines).toHaveLength(999);
});
