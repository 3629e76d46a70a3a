import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { run } from './peers/support/process.js';

const PROGRAM = `
import { commandLine } from './test/command-line.mjs';
const { values, operands } = commandLine('try', {
  about: 'What it is for.',
  operands: '[case …]',
  options: {
    runs: { number: 300, text: 'how many' },
    seed: { number: null, text: 'the first' },
    results: { value: 'DIR', preset: 'here', text: 'where they go' },
    target: { value: 'NAME', many: true, text: 'one of them' },
    verbose: { text: 'tells of all' },
  },
});
console.log(JSON.stringify({ ...values, operands }));
`;

const cwd = fileURLToPath(new URL('..', import.meta.url));
const tried = (...given: string[]) =>
  run(process.execPath, ['--input-type=module', '--eval', PROGRAM, '--', ...given], { cwd });

describe("a developer's command", () => {
  it('has what is given, and the presets of what is not', async () => {
    const presets = { runs: 300, results: 'here', verbose: false, operands: [] };
    expect(JSON.parse((await tried()).stdout)).toEqual(presets);
    const { stdout } = await tried(
      ...['a', '--runs', '0.5', '--seed', '7', '--results', 'there', '--verbose', 'b'],
      ...['--target', 'x', '--target', 'y'],
    );
    const given = { runs: 0.5, seed: 7, results: 'there', verbose: true, target: ['x', 'y'] };
    expect(JSON.parse(stdout)).toEqual({ ...given, operands: ['a', 'b'] });
  });

  it('prints its options when asked', async () => {
    expect(await tried('--runs', '1', '--help')).toMatchObject({
      code: 0,
      stderr: '',
      stdout: [
        'npm run try -- [case …] [options]',
        '',
        'What it is for.',
        '',
        '  --runs N       how many (default 300)',
        '  --seed N       the first',
        '  --results DIR  where they go (default here)',
        '  --target NAME  one of them (repeat it)',
        '  --verbose      tells of all',
        '',
      ].join('\n'),
    });
  });

  it.each([
    [['--nope'], "Unknown option '--nope'"],
    [['--runs'], "Option '--runs <value>' argument missing"],
    [['--runs', 'many'], '--runs takes a number, not many'],
    [['--verbose=yes'], "Option '--verbose' does not take an argument"],
  ])('refuses %j in one line', async (given, message) => {
    expect(await tried(...given)).toMatchObject({
      code: 2,
      stdout: '',
      stderr: `${message}; --help lists what there is\n`,
    });
  });
});

it('serves the soak, which runs without a loader', async () => {
  const soak = (...given: string[]) =>
    run(process.execPath, ['test/teardown/soak/soak.mjs', ...given], { cwd });
  const help = await soak('--help');
  expect(help).toMatchObject({ code: 0, stderr: '' });
  expect(help.stdout).toContain('--cycles N');
  expect(await soak('--cycles', '10')).toMatchObject({ code: 2, stdout: '' });
});
