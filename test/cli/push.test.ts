import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { WeightcastError } from '../../src/errors.js';
import { engineReport, report, runWith, updateError } from './fakes.js';

const PUSH = ['push', '/checkpoints/step_42', '-e', 'vllm=http://10.0.0.5:8000'];

test('every option of the command line reaches the fleet', async () => {
  const { fleet, updates, code } = await runWith(
    [
      ...PUSH,
      ...['-e', 'http://10.0.0.6:8000', '-t', 'nccl', '--fallback', 'filesystem', '--recover', '/old'],
      ...[
        '--packed',
        '--packed-buffer-bytes',
        '128MiB',
        '--master-address',
        '10.0.0.1',
        '--master-port',
        '29501',
      ],
      ...[
        '--device',
        '1',
        '--weight-version',
        '42',
        '--pause-mode',
        'wait',
        '--no-clear-cache',
        '--verify',
        'none',
      ],
      ...['--cuda-library', '/c', '--nccl-library', '/n', '--api-key-env', 'KEY', '--header', 'X-A: b: c'],
      ...['--header-env', 'X-T: TOKEN', '--timeout-pause', '1.5', '--timeout-score', '9'],
      ...['--state-dir', '/s', '--no-guardian'],
    ],
    undefined,
    { KEY: 'k', TOKEN: 't' },
  );
  expect(code).toBe(0);
  expect(fleet).toEqual({
    engines: [{ url: 'http://10.0.0.5:8000', backend: 'vllm' }, { url: 'http://10.0.0.6:8000' }],
    transport: 'nccl',
    fallback: 'filesystem',
    recover: '/old',
    packed: true,
    packedBufferBytes: 2 ** 27,
    masterAddress: '10.0.0.1',
    masterPort: 29501,
    device: 1,
    pauseMode: 'wait',
    clearCache: false,
    verify: 'none',
    cudaLibrary: '/c',
    ncclLibrary: '/n',
    apiKey: 'k',
    headers: { 'X-A': 'b: c', 'X-T': 't' },
    timeouts: { pause: 1500, score: 9000 },
    stateDir: '/s',
    guardian: false,
    onEvent: expect.any(Function),
  });
  expect(updates).toEqual([{ weights: '/checkpoints/step_42', version: '42' }]);
});

test('what is not given is left to the update', async () => {
  const { fleet, updates } = await runWith(PUSH);
  expect(fleet).toEqual({
    engines: [{ url: 'http://10.0.0.5:8000', backend: 'vllm' }],
    guardian: true,
    onEvent: expect.any(Function),
  });
  expect(updates).toEqual([{ weights: '/checkpoints/step_42', version: undefined }]);
});

test('the command line overrides the file', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'weightcast-push-'));
  try {
    const config = join(folder, 'weightcast.toml');
    await writeFile(
      config,
      'engine = ["http://a:1"]\ntransport = "nccl"\npacked = true\nweight_version = "7"\n',
    );
    const { fleet, updates } = await runWith([
      'push',
      '/w',
      '--config',
      config,
      '-t',
      'filesystem',
      '--no-packed',
    ]);
    expect(fleet).toMatchObject({ engines: [{ url: 'http://a:1' }], transport: 'filesystem', packed: false });
    expect(updates).toEqual([{ weights: '/w', version: '7' }]);
  } finally {
    await rm(folder, { recursive: true });
  }
});

describe('exit codes', () => {
  const untouched = [{ state: 'serving-old' as const, atMs: 1, reason: null }];
  test.each([
    ['0 when updated', undefined, 0],
    ['1 when the fleet serves the old version', updateError({ outcome: 'failed' }), 1],
    ['3 when an engine is quarantined', updateError({ outcome: 'quarantined' }), 3],
    ['1 when an engine cannot be reached', new WeightcastError('WC_ENGINE_UNREACHABLE', 'no'), 1],
    ['2 when the update finds an option wrong', new WeightcastError('WC_CONFIG_INVALID', 'no'), 2],
    ['1 for a defect', new TypeError('undefined is not a function'), 1],
    [
      '1, not 130, when nobody interrupted',
      updateError({ engines: [engineReport({ state: 'serving-old', history: untouched })] }),
      1,
    ],
  ])('%s', async (_, error, code) => {
    const ran = await runWith(PUSH, async () => {
      if (error !== undefined) throw error;
      return report();
    });
    expect(ran.code).toBe(code);
    expect(ran.closed).toBe(1);
  });

  test.each([
    ['an unknown option', [...PUSH, '--packd']],
    ['an unknown command', ['psuh']],
    ['no command', []],
    ['a missing argument', ['push']],
    ['no engine', ['push', '/w']],
    ['a wrong value', [...PUSH, '--verify', 'maybe']],
    ['a header without a value', [...PUSH, '--header', 'X-A']],
    ['a variable that is not set', [...PUSH, '--api-key-env', 'NOT_SET']],
    ['a configuration that does not exist', [...PUSH, '--config', '/does/not/exist.toml']],
  ])('2 for %s, before anything is connected', async (_, args) => {
    const ran = await runWith(args);
    expect(ran).toMatchObject({ code: 2, fleet: null, out: '' });
    expect(ran.err).not.toBe('');
  });

  test('0 for help and version', async () => {
    expect(await runWith(['push', '--help'])).toMatchObject({ code: 0, err: '' });
    expect(await runWith(['--version'])).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    });
  });
});

describe('with --json stdout is one document', () => {
  test('the report of an update', async () => {
    const ran = await runWith([...PUSH, '--json'], async (_, __, { onEvent }) => {
      onEvent?.({ kind: 'phase', phase: 'preflight' });
      onEvent?.({ kind: 'note', text: 'worth telling' });
      return report();
    });
    expect(JSON.parse(ran.out)).toEqual(report());
    expect(ran.err).toBe('preflight\nnote: worth telling\n');
  });

  test('the report of a failed update', async () => {
    const error = updateError({ outcome: 'quarantined' });
    const ran = await runWith([...PUSH, '--json'], () => Promise.reject(error));
    expect(JSON.parse(ran.out)).toEqual(error.report);
  });

  test.each([
    ['a wrong option', [...PUSH, '--packd', '--json'], "unknown option '--packd'"],
    ['a wrong value', [...PUSH, '--verify', 'maybe', '--json'], '--verify: must be one of'],
  ])('the error of %s', async (_, args, message) => {
    const ran = await runWith(args);
    expect(JSON.parse(ran.out)).toEqual({
      error: {
        code: 'WC_CONFIG_INVALID',
        message: expect.stringContaining(message),
        engine: null,
        phase: null,
        remedy: expect.any(String),
      },
    });
  });
});

test('a session that does not close well changes neither the exit code nor stdout', async () => {
  const ran = await runWith(
    [...PUSH, '--json'],
    async () => report(),
    {},
    () => Promise.reject(new Error('no answer')),
  );
  expect(ran.code).toBe(0);
  expect(JSON.parse(ran.out)).toEqual(report());
  expect(ran.err).toBe('closing the session failed: no answer\n');
});

test('with --quiet a good update says nothing and a failed one says what is wrong', async () => {
  expect(await runWith([...PUSH, '--quiet'])).toMatchObject({ out: '', err: '' });
  const failed = await runWith([...PUSH, '--quiet'], () => Promise.reject(updateError({})));
  expect(failed).toMatchObject({ out: '', err: expect.stringContaining('failed') });
});

test('an error without a report tells message, engine, phase and remedy', async () => {
  const { err } = await runWith(PUSH, () =>
    Promise.reject(
      new WeightcastError('WC_ENGINE_UNREACHABLE', 'connection refused', {
        engine: 'http://10.0.0.5:8000',
        phase: 'preflight',
      }),
    ),
  );
  expect(err).toBe(
    [
      'error: connection refused [WC_ENGINE_UNREACHABLE]',
      '  engine: http://10.0.0.5:8000',
      '  phase:  preflight',
      '  remedy: Check that the engine runs and that its address is right.',
      '',
    ].join('\n'),
  );
});

describe('an option is offered where it has an effect', () => {
  test.each([
    ['push', ['--router-url', '--sync-interval']],
    ['watch', ['--router-url']],
    ['recover', ['--router-url', '--sync-interval', '--transport', '--packed']],
    ['doctor', ['--router-url', '--sync-interval']],
    [
      'fleet',
      ['--verify', '--state-dir', '--timeout-pause', '--timeout-discovery', '--transport', '--guardian'],
    ],
  ])('%s', async (command, absent) => {
    const { out } = await runWith([command, '--help']);
    for (const flag of ['--engine', '--discover', '--api-key-env', '--config']) expect(out).toContain(flag);
    for (const flag of absent) expect(out).not.toMatch(new RegExp(`^ +(-\\w, )?${flag} `, 'm'));
  });

  test('as these', async () => {
    const options = async (command: string) => (await runWith([command, '--help'])).out;
    expect(await options('fleet')).toContain('--router-url <url>');
    expect(await options('watch')).toContain('--sync-interval <seconds>');
    expect(await options('recover')).toContain('--timeout-resume <seconds>');
  });

  test('and watch looks at found engines as often as it is told', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'weightcast-'));
    try {
      await mkdir(join(dir, 'step_1'));
      await writeFile(join(dir, 'step_1', 'STABLE'), '');
      const ran = await runWith([
        ...['watch', dir, '--elastic', 'pods:8000', '--sync-interval', '2', '--max-updates', '1'],
      ]);
      expect(ran.fleet).toMatchObject({ engines: [], pool: { intervalMs: 2000 } });
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});

test('wrong usage of fleet points at the help of fleet, and two formats at once are refused', async () => {
  const { code, err } = await runWith(['fleet']);
  expect([code, err]).toEqual([2, expect.stringContaining('`weightcast fleet --help`')]);
  const both = await runWith(['fleet', '-e', 'http://127.0.0.1:9', '--prometheus', '--json']);
  expect(both.code).toBe(2);
  expect(both.out).toContain('WC_CONFIG_INVALID');
  expect(both.out).toContain('`weightcast fleet --help`');
  expect(both.err).toContain("'--prometheus' cannot be used with option '--json'");
});
