import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openPublished } from '../../src/transports/filesystem/published/open.js';
import { publishSmall } from '../transports/filesystem/publication.js';
import { withDirectory } from '../weights/files.js';
import { runWith } from './fakes.js';

async function published(directory: string): Promise<void> {
  for (const version of [1, 2, 3, 4]) await publishSmall(directory, version);
}

test('prune says what went, what stays and why, and what is not its own', () =>
  withDirectory(async (directory) => {
    await published(directory);
    await writeFile(join(directory, 'step_9'), 'mine');
    await using _ = await openPublished(directory, { version: 2 });
    const { code, out } = await runWith(['prune', directory, '--grace', '0']);
    expect(code).toBe(0);
    expect(out).toMatch(/^removed: 1 version \(3\.\d\d kB\)\n {2}step_1 {2}3\.\d\d kB\nkept: 3 versions\n/);
    expect(out).toContain('  step_2  somebody reads it\n');
    expect(out).toMatch(/not touched: .*step_9: /);
    expect((await readdir(directory)).filter((name) => name.startsWith('step_')).sort()).toEqual(
      [2, 3, 4, 9].map((version) => `step_${version}`),
    );
  }));

test('prune --dry-run --json is one document, and removes nothing', () =>
  withDirectory(async (directory) => {
    await published(directory);
    const { code, out } = await runWith([
      'prune',
      directory,
      '--grace',
      '0',
      '--keep-every',
      '1',
      '--dry-run',
      '--json',
    ]);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      dryRun: true,
      removed: [],
      kept: [{}, {}, { reason: 'every' }, {}],
    });
    const again = await runWith(['prune', directory, '--grace', '0', '--dry-run', '--json']);
    expect(JSON.parse(again.out).removed).toMatchObject([{ version: 1 }, { version: 2 }]);
    expect(await readdir(directory)).toHaveLength(5);
  }));

test('prune says when nothing is published in the directory that was named', () =>
  withDirectory(async (directory) => {
    const nowhere = join(directory, 'polciy');
    expect(await runWith(['prune', nowhere])).toMatchObject({
      code: 0,
      out: `nothing is published in ${nowhere}\n`,
    });
  }));

test('prune refuses to keep fewer than two, and words for numbers', async () => {
  const { code, err } = await runWith(['prune', '/nowhere', '--keep', '1']);
  expect(code).toBe(2);
  expect(err).toContain('from 2 on');
  expect((await runWith(['prune', '/nowhere', '--grace', 'soon'])).code).toBe(2);
});
