/** Records of pushes that died, as a test wants them. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { engineKey } from '../../src/update/claim/identity.js';
import type { PushFacts, RecordHead } from '../../src/update/claim/record.js';
import type { EngineState } from '../../src/update/types.js';

export interface LeftBehind {
  /** What the push says that each engine was, by URL. */
  readonly states: Readonly<Record<string, EngineState>>;
  readonly push: Partial<PushFacts> & Pick<PushFacts, 'weights'>;
  /** It ended while all of them joined its group. */
  readonly joining?: boolean;
  /** Unix milliseconds. */
  readonly since?: number;
}

/** Writes the record of a push that has ended. */
export async function leave(
  state: string,
  { states, push, joining = false, since = 1 }: LeftBehind,
): Promise<void> {
  const urls = Object.keys(states);
  const head: RecordHead = {
    weightcast: 1,
    id: `00000000000${since}-0`,
    role: 'push',
    holder: { pid: 1, startTicks: 1, bootId: 'another', pidNamespace: 'pid:[1]', host: 'another' },
    since,
    engines: urls.map((url) => ({ key: engineKey(url), url })),
    push: { version: null, fallback: 'none', recover: null, verify: 'auto', headerNames: [], ...push },
  };
  const events = [
    { event: 'held' },
    ...(joining ? [{ event: 'ask', what: 'join', engines: urls.map((_, index) => index) }] : []),
    { event: 'state', states: Object.fromEntries(urls.map((url, index) => [index, states[url]])) },
    { event: 'left' },
  ];
  const text = [head, ...events].map((line) => `${JSON.stringify(line)}\n`).join('');
  await writeFile(join(state, `${head.id}.push`), text, { mode: 0o600 });
}

export async function withStateDirectory(body: (state: string) => Promise<void>): Promise<void> {
  const state = await mkdtemp(join(tmpdir(), 'weightcast-left-'));
  try {
    await body(state);
  } finally {
    await rm(state, { recursive: true });
  }
}
