import { describeRecord, inDoubt, parseRecord } from '../../../src/update/claim/record.js';
import { expectTrue, type FuzzTarget, text } from './target.js';

const HEAD = {
  weightcast: 1,
  id: 'ab-12',
  role: 'push',
  holder: { pid: 7, startTicks: 1, bootId: 'b', pidNamespace: 'p', host: 'h' },
  since: 1_795_250_975_000,
  engines: [
    { key: 'k', url: 'http://a:1' },
    { key: 'l', url: 'http://b:1' },
  ],
  push: { weights: '/w', version: '1', fallback: 'none', recover: null, verify: 'auto', headerNames: [] },
};
const EVENTS = [
  { event: 'held' },
  { event: 'started', at: { 0: 1.5 } },
  { event: 'ask', what: 'pause', engines: [0, 1] },
  { event: 'state', states: { 1: 'paused' } },
  { event: 'ask', what: 'load', engines: [1], directory: '/d' },
  { event: 'left', reasons: { 0: 'x' } },
  { event: 'settled', engines: [0] },
];

/** What a push that died left on disk. Nothing in it is refused: what can't be read makes its engines doubtful. */
export const pushRecord: FuzzTarget = {
  name: 'push-record',
  seeds: () => [text([HEAD, ...EVENTS].map((line) => `${JSON.stringify(line)}\n`).join(''))],
  run: (input) => {
    const content = Buffer.from(input).toString('utf8');
    const record = parseRecord(content);
    if (record === null) return;
    expectTrue(describeRecord(record.head).length < 100_000, 'a description without end');
    const lines = content
      .split('\n')
      .slice(1, -1)
      .filter((line) => line !== '');
    const broken = lines.length > 0 && !isJson(lines.at(-1)!);
    if (broken)
      for (const engine of record.engines)
        expectTrue(engine.settled || inDoubt(engine), 'a damaged record is trusted');
  },
};

function isJson(line: string): boolean {
  try {
    JSON.parse(line);
    return true;
  } catch {
    return false;
  }
}
