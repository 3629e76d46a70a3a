import { mkdir, mkdtemp, rename, rm, symlink, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listVersions, patientLook } from '../../../src/cli/watch/listing.js';
import { WeightcastError } from '../../../src/errors.js';
import { writeManifest } from '../../../src/transports/filesystem/manifest.js';
import type { UpdateOptions } from '../../../src/update/types.js';
import { deltaManifest } from '../../transports/filesystem/manifests.js';
import { report, runWith, updateError } from '../fakes.js';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-watch-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function step(n: number | string, marked = true): Promise<void> {
  await mkdir(join(folder, `step_${n}`));
  if (marked) await writeFile(join(folder, `step_${n}`, 'STABLE'), '');
}

async function checkpoint(name: string, bytes: string): Promise<string> {
  const path = join(folder, name);
  await mkdir(path);
  await writeFile(join(path, 'model.safetensors'), bytes);
  return path;
}

const args = (updates: number, directory = folder) => [
  ...['watch', directory, '-e', 'http://127.0.0.1:9', '--interval', '0.01', '--max-updates', String(updates)],
];

describe('a listing', () => {
  test('has the newest step with a marker: a half-written folder is none', async () => {
    await step(2);
    await step(10);
    await step(11, false);
    await step('12.tmp');
    await writeFile(join(folder, 'step_13'), 'a file');
    const found = await listVersions(folder, 2);
    expect(found.newest).toMatchObject({ step: 10, path: join(folder, 'step_10') });
    expect(found).toMatchObject({ lastStepExists: true, checkpoint: null });
    expect((await listVersions(folder, 9)).lastStepExists).toBe(false);
  });

  test('has the folder itself when it is a checkpoint, with another identity after a rename', async () => {
    const path = await checkpoint('latest', 'old');
    const before = (await listVersions(path, null)).checkpoint;
    await rename(path, join(folder, 'before'));
    await rename(await checkpoint('next', 'new'), path);
    const after = (await listVersions(path, null)).checkpoint;
    expect(before?.identity).toBeTypeOf('string');
    expect(after?.identity).not.toBe(before?.identity);
  });

  test('sees a change of any shard', async () => {
    const path = await checkpoint('latest', 'old');
    const before = (await listVersions(path, null)).checkpoint;
    await utimes(join(path, 'model.safetensors'), 1, 1);
    expect((await listVersions(path, null)).checkpoint?.identity).not.toBe(before?.identity);
  });

  test('is empty for a folder that does not exist yet, and refuses a file', async () => {
    expect(await listVersions(join(folder, 'later'), null)).toMatchObject({ newest: null, checkpoint: null });
    await writeFile(join(folder, 'file'), '');
    await expect(listVersions(join(folder, 'file'), null)).rejects.toMatchObject({
      code: 'WC_CONFIG_INVALID',
    });
  });
});

test('an error of the file system is told once and may pass', async () => {
  const path = join(folder, 'outputs');
  await symlink(path, path);
  const told: string[] = [];
  const look = patientLook((text) => told.push(text));
  expect(await look(path, 1)).toEqual({
    newest: null,
    unmarked: [],
    lastStepExists: true,
    checkpoint: null,
  });
  await look(path, 1);
  expect(told).toEqual([expect.stringMatching(/^ELOOP: .*; looking again$/)]);
  await unlink(path);
  await step(1);
  await symlink(folder, path);
  expect((await look(path, null)).newest).toMatchObject({ step: 1 });
});

test('every version is pushed as it appears, in one session, straight to the newest', async () => {
  await step(1);
  await step(2);
  const ran = await runWith(args(2), async (weights) => {
    if (basename(weights) === 'step_2') {
      await step(3);
      await step(4);
    }
    return report();
  });
  expect(ran).toMatchObject({ code: 0, closed: 1 });
  expect(ran.updates).toEqual([
    { weights: join(folder, 'step_2'), version: '2' },
    { weights: join(folder, 'step_4'), version: '4' },
  ]);
});

test('a failure is reported and the next version is tried', async () => {
  await step(1);
  const errors = [
    updateError({ outcome: 'quarantined' }),
    new WeightcastError('WC_CHECKPOINT_INVALID', 'shards disagree'),
  ];
  let tried = 0;
  const ran = await runWith([...args(3), '--json'], async () => {
    tried += 1;
    await step(tried + 1);
    const error = errors[tried - 1];
    if (error !== undefined) throw error;
    return report();
  });
  expect(ran.code).toBe(0);
  expect(ran.updates.map(({ version }) => version)).toEqual(['1', '2', '3']);
  const lines = ran.out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines).toMatchObject([
    { outcome: 'quarantined' },
    { version: '2', error: { code: 'WC_CHECKPOINT_INVALID' } },
    { outcome: 'updated' },
  ]);
});

test('the exit code is that of the last update', async () => {
  await step(1);
  const ran = await runWith(args(1), () => Promise.reject(updateError({ outcome: 'quarantined' })));
  expect(ran.code).toBe(3);
  expect(ran.err).toContain('quarantined');
});

test('a replaced checkpoint is pushed by the time at which it was written', async () => {
  const path = await checkpoint('latest', 'weights');
  await utimes(join(path, 'model.safetensors'), 1_700_000_000, 1_700_000_000);
  const ran = await runWith(args(1, path));
  expect(ran.updates).toEqual([{ weights: path, version: '2023-11-14T22:13:20.000Z' }]);
});

test('watching a file is wrong usage', async () => {
  await writeFile(join(folder, 'file'), '');
  expect(await runWith(args(1, join(folder, 'file')))).toMatchObject({ code: 2, closed: 1 });
});

test.each([
  [['--delta'], { delta: true }],
  [
    ['--delta-from', '/o/step_0', '--delta-from-version', '0'],
    { delta: true, deltaFrom: '/o/step_0', deltaFromVersion: '0' },
  ],
  [[], {}],
])('asks for deltas with %j', async (flags, wanted) => {
  await step(1);
  const asked: UpdateOptions[] = [];
  await runWith([...args(1), ...flags], async (_, options) => {
    asked.push(options);
    return report();
  });
  const { signal: _, version, ...rest } = asked[0] as UpdateOptions;
  expect({ version, rest }).toEqual({ version: '1', rest: wanted });
});

test('published deltas, which no engine can load, are told once with what to do; full versions between them are pushed', async () => {
  const delta = async (version: number) => {
    await mkdir(join(folder, `step_${version}`));
    await writeManifest(join(folder, `step_${version}`), deltaManifest({ version }), { sync: false });
  };
  await step(10);
  await delta(11);
  const ran = await runWith(args(2), async () => {
    await delta(12);
    await step(20);
    await delta(21);
    return report();
  });
  expect(ran.updates.map(({ version }) => version)).toEqual(['10', '20']);
  expect(ran.err.match(/weightcast follow .* --into LOCAL/g)).toEqual([
    `weightcast follow ${folder} --into LOCAL`,
  ]);
});

test('a step that is only half-written is not taken for a delta', async () => {
  await step(1);
  await step(2, false);
  expect((await runWith(args(1))).err).not.toContain('weightcast follow');
});
