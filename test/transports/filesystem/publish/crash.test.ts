/** Publishers that are killed, and publishers that meet: real processes, stopped at a call of theirs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { writeTinyModel } from '../../../../src/testing/tiny-model.js';
import { type CommitMode, publish } from '../../../../src/transports/filesystem/publish/index.js';
import { listPublished } from '../../../../src/transports/filesystem/published/list.js';
import { everythingIn, requireWhole } from './support.js';

const SCRIPT = fileURLToPath(new URL('publisher.mjs', import.meta.url));
const LONG = 60_000;

let folder: string;
let model: string;
let directory: string;
let children: ChildProcess[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-crash-'));
  model = join(folder, 'model');
  await mkdir(model);
  await writeTinyModel(model, { seed: 5 });
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(async () => {
  directory = await mkdtemp(join(folder, 'published-'));
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children = [];
});

interface Stop {
  readonly action: 'kill' | 'wait';
  readonly call: string;
  readonly text: string;
}

/** Starts a publisher of version 1. */
function start(commit: CommitMode, { action, call, text }: Stop) {
  const args = [SCRIPT, model, directory, '1', commit, action, call, text];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    out += chunk;
  });
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, out }));
  return { child, ended };
}

/** Starts one that waits before a call; resolves once it does. `goOn` lets it end, and gives what it said. */
async function startWaiting(commit: CommitMode, call: string, text: string) {
  const { child, ended } = start(commit, { action: 'wait', call, text });
  await Promise.race([once(child.stdout, 'data'), ended.then(({ out }) => Promise.reject(new Error(out)))]);
  return async () => {
    child.stdin.write('go on\n');
    const { out } = await ended;
    return JSON.parse(out.split('\n').at(-2) ?? '') as { path?: string; code?: string; message?: string };
  };
}

async function killed(commit: CommitMode, call: string, text: string): Promise<void> {
  const { signal, out } = await start(commit, { action: 'kill', call, text }).ended;
  expect([signal, out]).toEqual(['SIGKILL', '']);
}

const accepted = async () => (await listPublished(directory)).map(({ version }) => version);
/** Files that nobody has written to for long; with a text, as if that were all they say. */
async function makeOld(place: string, text?: string): Promise<void> {
  for (const name of await readdir(place)) {
    if (text !== undefined) await writeFile(join(place, name), text);
    await utimes(join(place, name), 1, 1);
  }
  await utimes(place, 1, 1);
}

const ours = async () => (await readdir(join(directory, '.weightcast'))).filter((name) => name !== 'leases');

describe('a publisher that is killed', () => {
  it.each<[CommitMode, string, string, string]>([
    ['rename', 'before it says who it is', 'open', '.weightcast/owner-'],
    ['rename', 'when it has its folder', 'mkdir', 'partial-'],
    ['rename', 'at the index', 'open', 'step_1/model.safetensors.index.json'],
    ['rename', 'while shards are written', 'progress', ''],
    ['rename', 'at the manifest', 'open', 'step_1/weightcast-manifest.json'],
    ['manifest-last', 'before it says who it is', 'open', '.weightcast/owner-'],
    ['manifest-last', 'when it has entered the folder', 'open', 'step_1/weightcast-owner-'],
    ['manifest-last', 'at the index', 'open', 'step_1/model.safetensors.index.json'],
    ['manifest-last', 'while shards are written', 'progress', ''],
    ['manifest-last', 'at the manifest', 'open', 'step_1/weightcast-manifest.json'],
  ])(
    '%s: %s leaves nothing that a reader accepts, and the next one sweeps it',
    { timeout: LONG },
    async (commit, _, call, text) => {
      await killed(commit, call, text);
      expect(await accepted()).toEqual([]);
      // A file that was not written to its end does not say whose it is: it counts by its age.
      if (text.includes('.weightcast/')) await makeOld(join(directory, '.weightcast'));
      const { path, swept } = await publish(model, { directory, version: 1, commit });
      expect(swept).toHaveLength(text.includes('.weightcast/') ? 0 : 1);
      await requireWhole(path);
      expect(await accepted()).toEqual([1]);
      expect(await ours()).toEqual([]);
      const { shards, files } = (await listPublished(directory))[0]?.manifest ?? { shards: [], files: [] };
      const named = [...shards, ...files].map(({ name }) => name);
      expect(await everythingIn(path)).toEqual(['STABLE', 'weightcast-manifest.json', ...named].sort());
    },
  );

  it.each<[CommitMode, string, string]>([
    ['rename', 'rename', 'partial-'],
    ['manifest-last', 'open', 'STABLE'],
  ])(
    '%s: after it has published leaves a version, whose marker the next one sets',
    { timeout: LONG },
    async (commit, call, text) => {
      await killed(commit, call, text);
      expect(await accepted()).toEqual([1]);
      await rm(join(directory, 'step_1', 'STABLE'), { force: true });
      await publish(model, { directory, version: 2, commit });
      await requireWhole(join(directory, 'step_1'));
      expect(await everythingIn(join(directory, 'step_1'))).toContain('STABLE');
      expect(
        (await everythingIn(join(directory, 'step_1'))).filter((name) => name.includes('owner')),
      ).toEqual([]);
      expect(await ours()).toEqual([]);
    },
  );
});

describe('two publishers of one version', () => {
  it('rename: the first to rename wins, the other is told and leaves nothing', {
    timeout: LONG,
  }, async () => {
    const goOn = await startWaiting('rename', 'rename', 'partial-');
    const { manifest, swept } = await publish(model, { directory, version: 1 });
    expect(swept).toEqual([]);
    expect(await goOn()).toMatchObject({
      code: 'WC_PUBLISH_EXISTS',
      message: expect.stringContaining(`process ${process.pid}`),
    });
    expect(await requireWhole(join(directory, 'step_1'))).toEqual(manifest);
    expect(await ours()).toEqual([]);
  });

  it('manifest-last: who came later is told that somebody writes, and the first one wins', {
    timeout: LONG,
  }, async () => {
    const goOn = await startWaiting('manifest-last', 'open', 'step_1/weightcast-manifest.json');
    await expect(publish(model, { directory, version: 1, commit: 'manifest-last' })).rejects.toMatchObject({
      code: 'WC_PUBLISH_BUSY',
    });
    expect(await accepted()).toEqual([]);
    expect(await goOn()).toEqual({ path: join(directory, 'step_1') });
    await requireWhole(join(directory, 'step_1'));
    expect(await ours()).toEqual([]);
  });

  it('manifest-last: who came later does not overtake one that has said that it writes', {
    timeout: LONG,
  }, async () => {
    const goOn = await startWaiting('manifest-last', 'open', 'step_1/model.safetensors.index.json');
    await expect(publish(model, { directory, version: 1, commit: 'manifest-last' })).rejects.toMatchObject({
      code: 'WC_PUBLISH_BUSY',
    });
    expect(await goOn()).toEqual({ path: join(directory, 'step_1') });
    await requireWhole(join(directory, 'step_1'));
    expect(await ours()).toEqual([]);
  });

  it('of both kinds: one wins', { timeout: LONG }, async () => {
    const goOn = await startWaiting('manifest-last', 'open', 'step_1/weightcast-manifest.json');
    await expect(publish(model, { directory, version: 1 })).rejects.toMatchObject({
      code: 'WC_PUBLISH_EXISTS',
    });
    expect(await goOn()).toEqual({ path: join(directory, 'step_1') });
    expect(await accepted()).toEqual([1]);
  });

  it('manifest-last, that have not seen one another: the first file decides', { timeout: LONG }, async () => {
    const goOn = await startWaiting('manifest-last', 'open', 'step_1/model.safetensors.index.json');
    // As if it could not be seen, and had not been heard of for long.
    await makeOld(join(directory, '.weightcast'), '');
    await makeOld(join(directory, 'step_1'), '');
    await publish(model, { directory, version: 1, commit: 'manifest-last' });
    expect(await goOn()).toMatchObject({ code: expect.stringMatching(/^WC_PUBLISH_(EXISTS|BUSY)$/) });
    await requireWhole(join(directory, 'step_1'));
    expect(await accepted()).toEqual([1]);
  });

  it.each(['rename', 'manifest-last'] as const)(
    '%s: of six that start at once one wins',
    { timeout: LONG },
    async (commit) => {
      const results = await Promise.allSettled(
        Array.from({ length: 6 }, () => publish(model, { directory, version: 1, commit, fsync: false })),
      );
      const won = results.filter((result) => result.status === 'fulfilled');
      expect(won).toHaveLength(1);
      for (const result of results) {
        if (result.status === 'rejected')
          expect(result.reason).toMatchObject({ code: expect.stringMatching(/^WC_PUBLISH_(EXISTS|BUSY)$/) });
      }
      await requireWhole(join(directory, 'step_1'));
      expect(await ours()).toEqual([]);
    },
  );
});
