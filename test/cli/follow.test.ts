import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { listPublished } from '../../src/transports/filesystem/published/list.js';
import { publishSmall } from '../transports/filesystem/publication.js';
import { withDirectory } from '../weights/files.js';
import { runWith } from './fakes.js';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

test('follow prints a line for each version that is there', () =>
  withDirectory(async (folder) => {
    const [shared, local] = [join(folder, 'shared'), join(folder, 'local')];
    await publishSmall(shared, 7);
    const { code, out, err } = await runWith(['follow', shared, '--into', local, '--max-versions', '1']);
    expect({ code, out }).toEqual({
      code: 0,
      out: expect.stringMatching(/^version 7: .*step_7 \(3\.\d\d kB/),
    });
    expect(err).toContain(`following ${shared} into ${local}`);
  }));

test('follow --json is a document a line, also for a version that is not taken', () =>
  withDirectory(async (folder) => {
    const [shared, local] = [join(folder, 'shared'), join(folder, 'local')];
    await publishSmall(shared, 7);
    await truncate(join(await publishSmall(shared, 8), 'config.json'), 1);
    const child = spawn(process.execPath, [
      main,
      'follow',
      shared,
      '--into',
      local,
      '--json',
      '--interval',
      '0.01',
    ]);
    const lines: string[] = [];
    child.stdout.on('data', (bytes: Buffer) => lines.push(...bytes.toString().trim().split('\n')));
    await expect.poll(() => lines.length).toBe(1);
    expect(JSON.parse(lines[0] as string)).toMatchObject({
      version: 8,
      error: { code: 'WC_VERSION_CORRUPT' },
    });
    await expect.poll(() => lines.length).toBe(2);
    expect(JSON.parse(lines[1] as string)).toMatchObject({ version: 7, digest: expect.any(String) });
    child.kill('SIGINT');
    expect(await once(child, 'close')).toEqual([0, null]);
    expect((await listPublished(local)).map(({ version }) => version)).toEqual([7]);
  }));

test('follow that is interrupted before there was a version says so by its code; without --into it is wrong usage', () =>
  withDirectory(async (folder) => {
    const child = spawn(process.execPath, [main, 'follow', folder, '--into', join(folder, 'local')]);
    let told = '';
    child.stderr.on('data', (bytes: Buffer) => {
      told += bytes;
    });
    await expect.poll(() => told).toContain(`nothing is published in ${folder} yet: waiting\n`);
    child.kill('SIGINT');
    expect(await once(child, 'close')).toEqual([130, null]);
    expect((await runWith(['follow', folder])).code).toBe(2);
  }));
