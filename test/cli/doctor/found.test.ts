/** `weightcast doctor` of engines that are found, and of other backends than vLLM. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ReferenceDynamo, startReferenceDynamo, writeTinyModel } from '../../../src/testing/index.js';
import { weightcast } from '../spawned.js';

interface Shown {
  readonly ok: boolean;
  readonly engines: readonly { readonly id: string; readonly backend: string }[];
  readonly findings: readonly {
    readonly verdict: string;
    readonly about: string;
    readonly text: string;
    readonly remedy: string | null;
  }[];
}

let folder = '';
let dynamo: ReferenceDynamo;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-doctor-'));
  await writeTinyModel(folder);
  dynamo = await startReferenceDynamo({ model: folder, workersInEngine: true, engines: 2 });
}, 120_000);
afterAll(async () => {
  await dynamo?.close();
  await rm(folder, { recursive: true, force: true });
});

const doctor = async (...args: string[]) => {
  const { code, out } = await weightcast(['doctor', '-t', 'filesystem', '--json', ...args]);
  return { code, shown: JSON.parse(out) as Shown };
};

test('everybody whom a frontend lists is looked at', async () => {
  const { code, shown } = await doctor('--discover', `dynamo=${dynamo.url},rl=${dynamo.discoveryUrl}`);
  expect(shown.engines.map(({ id }) => id).sort()).toEqual(
    dynamo.workers.map(({ systemUrl }) => systemUrl).sort(),
  );
  expect(shown.findings).toContainEqual(
    expect.objectContaining({ about: 'discovery', verdict: 'ok', text: 'found 2 engines' }),
  );
  expect([code, shown.ok]).toEqual([0, true]);
}, 120_000);

test('a frontend that lists nobody is a problem, and not that nothing is wrong', async () => {
  const { code, shown } = await doctor(
    ...['--discover', 'dynamo=http://127.0.0.1:9', '--timeout-discovery', '0.5'],
  );
  expect([code, shown.ok, shown.engines]).toEqual([1, false, []]);
  expect(shown.findings).toContainEqual(
    expect.objectContaining({ about: 'discovery', verdict: 'wrong', remedy: expect.anything() }),
  );
}, 120_000);

test('a Dynamo worker by --backend is named as one, asked only what it has, and warned about', async () => {
  const url = dynamo.workers[0]?.systemUrl ?? '';
  const { code, shown } = await doctor('--backend', 'dynamo', '-e', url);
  expect(code).toBe(0);
  expect(shown.engines).toMatchObject([{ id: url, backend: 'dynamo', adminRoutesOpen: null, info: null }]);
  const texts = shown.findings.filter(({ about }) => about === url).map(({ text }) => text);
  expect(texts[0]).toMatch(/^dynamo python worker: receives by /);
  expect(texts.join('\n')).toContain('a Dynamo system port asks for no key');
  expect(texts.join('\n')).not.toContain('vLLM');
}, 120_000);
