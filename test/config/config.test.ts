import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseByteSize } from '../../src/config/bytes.js';
import { nearestKey } from '../../src/config/nearest.js';
import { fleetOptions, mergeSettings, readSettingsFile, validateSettings } from '../../src/config.js';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-config-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function file(text: string): Promise<string> {
  const path = join(folder, 'weightcast.toml');
  await writeFile(path, text);
  return path;
}

const read = async (text: string) => readSettingsFile(await file(text));
const fromFile = async (text: string, env = {}) => fleetOptions(await read(text), env);

test('a file with every option becomes the options of a fleet', async () => {
  const options = await fromFile(
    `
    transport = "nccl"
    fallback = "filesystem"
    recover = "old"
    packed = true
    packed_buffer_bytes = "256MiB"
    master_address = "10.0.0.1"
    master_port = 29501
    device = 1
    pause_mode = "wait"
    clear_cache = false
    verify = "digest"
    cuda_library = "/opt/libcuda.so.1"
    nccl_library = "/opt/libnccl.so.2"
    state_dir = "state"
    guardian = false
    sync_interval = 2.5
    router_url = "http://router:80"
    api_key_env = "KEY"
    headers = { X-Team = "rl" }
    headers_from_env = { X-Token = "TOKEN" }

    [timeouts]
    pause = 1.5
    update = 60

    [[engine]]
    url = "http://10.0.0.5:8000"
    backend = "vllm"
    api_key_env = "OTHER"

    [[engine]]
    url = "https://10.0.0.6/vllm"
    `,
    { KEY: 'k', OTHER: 'o', TOKEN: 't' },
  );
  expect(options).toEqual({
    engines: [
      { url: 'http://10.0.0.5:8000', backend: 'vllm', apiKey: 'o' },
      { url: 'https://10.0.0.6/vllm' },
    ],
    transport: 'nccl',
    fallback: 'filesystem',
    recover: join(folder, 'old'),
    packed: true,
    packedBufferBytes: 2 ** 28,
    masterAddress: '10.0.0.1',
    masterPort: 29501,
    device: 1,
    pauseMode: 'wait',
    clearCache: false,
    verify: 'digest',
    cudaLibrary: '/opt/libcuda.so.1',
    ncclLibrary: '/opt/libnccl.so.2',
    apiKey: 'k',
    headers: { 'X-Team': 'rl', 'X-Token': 't' },
    timeouts: { pause: 1500, update: 60_000 },
    stateDir: join(folder, 'state'),
    guardian: false,
    pool: { intervalMs: 2500 },
    routerUrl: 'http://router:80',
  });
});

test('the example of the README is valid', async () => {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const [, example] = /```toml\n([\s\S]*?)```/.exec(readme) ?? [];
  expect((await fromFile(example ?? '')).engines.length).toBeGreaterThan(0);
});

test('a push has a guardian unless that is turned off, and keeps no state where none is wanted', async () => {
  const engine = 'engine = ["http://a:1"]\n';
  expect(await fromFile(engine)).toMatchObject({ guardian: true });
  expect(await fromFile(`${engine}state_dir = "none"`)).toMatchObject({ stateDir: null });
});

test('engines may be written as strings', async () => {
  const options = await fromFile('engine = ["vllm=http://a:1", "http://b:2"]');
  expect(options.engines).toEqual([{ backend: 'vllm', url: 'http://a:1' }, { url: 'http://b:2' }]);
});

test('an engine written as a string keeps what follows its address', async () => {
  const options = await fromFile('engine = ["dynamo=http://a:9090,workers=2,inference=http://front:8000"]');
  expect(options.engines).toEqual([
    { backend: 'dynamo', url: 'http://a:9090', workers: 2, inferenceUrl: 'http://front:8000' },
  ]);
});

describe('an error names the file, the key and what it may be', () => {
  test.each([
    ['transport = "ncl"', 'weightcast.toml: transport: must be one of "nccl", "filesystem", not "ncl"'],
    ['packed = "yes"', 'packed: must be true or false, not "yes"'],
    ['device = -1', 'device: must be a whole number from 0 to 1023, not -1'],
    ['engine = ["vllm=htp://a:1"]', 'such as http://10.0.0.5:8000, not "vllm=htp://a:1"'],
    ['[[engine]]\nurl = "10.0.0.5:8000"', 'such as http://10.0.0.5:8000, not "10.0.0.5:8000"'],
    ['engine = ["http://me:secret@a:1"]', 'api_key_env, not "http://…@a:1"'],
    ['master_port = 70000', 'master_port: must be a whole number from 0 to 65535, not 70000'],
    ['packed_buffer_bytes = "many"', 'or "1GiB", not "many"'],
    ['device = 0.5', 'device: must be a whole number from 0 to 1023'],
    ['master_port = 65536', 'master_port: must be a whole number from 0 to 65535'],
    ['packed_buffer_bytes = "lots"', 'packed_buffer_bytes: must be a size from 1 byte to 64 GiB'],
    ['packed_buffer_bytes = 0', 'packed_buffer_bytes: must be a size from 1 byte to 64 GiB'],
    ['transprt = "nccl"', 'transprt: unknown key; did you mean transport?'],
    ['packedBufferBytes = 1', 'packedBufferBytes: unknown key; did you mean packed_buffer_bytes?'],
    ['[timeouts]\npuase = 1', 'timeouts.puase: unknown key; did you mean pause?'],
    ['[timeouts]\npause = 0', 'timeouts.pause: must be more than 0 seconds'],
    ['[[engine]]\nurl = "ftp://x"', 'engine[0].url: must be an http:// or https:// address'],
    ['[[engine]]\nurl = "http://u:p@x"', 'engine[0].url: must not contain a user or password'],
    ['[[engine]]\nurl = "http://x"\nhost = 1', 'engine[0].host: unknown key'],
    ['[[engine]]\ndialect = "vllm"', 'engine[0].url: must be a string'],
    ['zzzzzzzzzz = 1', 'zzzzzzzzzz: unknown key'],
    ['headers = { "bad name" = "x" }', 'headers.bad name: is not a valid header name'],
    ['headers = { X = "a\\nb" }', 'headers.X: must be printable ASCII on one line'],
    ['api_key_env = "sk-123"', 'api_key_env: must be the name of an environment variable'],
  ])('%s', async (text, message) => {
    await expect(read(text)).rejects.toMatchObject({
      code: 'WC_CONFIG_INVALID',
      message: expect.stringContaining(message),
    });
  });

  test('and every problem of a file at once', async () => {
    await expect(read('device = "a"\nverify = 1')).rejects.toThrow(
      /device: must be a number.*; verify: must be one of/,
    );
  });

  test('and line and column where the text is not TOML', async () => {
    await expect(read('device = 1\ntransport = nccl\n')).rejects.toThrow(/weightcast\.toml:2:\d+: /);
  });
});

describe('a file has no secrets', () => {
  test.each([
    ['api_key = "sk-123"', 'api_key: secrets do not belong in this file'],
    ['[[engine]]\nurl = "http://x"\napi_key = "sk-123"', 'engine[0].api_key: secrets do not belong'],
    ['headers = { Authorization = "Bearer sk-123" }', 'use headers_from_env.Authorization'],
  ])('%s', async (text, message) => {
    const error = await read(text).then(
      () => null,
      (caught: Error) => caught,
    );
    expect(error?.message).toContain(message);
    expect(error?.message).not.toContain('sk-123');
  });

  test('a variable that is not set is named', async () => {
    await expect(fromFile('engine = ["http://x"]\napi_key_env = "KEY"')).rejects.toThrow(
      'api_key_env: the environment variable KEY is not set',
    );
  });
});

test('a missing file, a folder and a file of more than 1 MiB are refused', async () => {
  await expect(readSettingsFile(join(folder, 'none.toml'))).rejects.toThrow(
    /none\.toml: cannot be read: ENOENT/,
  );
  await expect(readSettingsFile(folder)).rejects.toMatchObject({ code: 'WC_CONFIG_INVALID' });
  const large = await file('');
  await truncate(large, 2 ** 20 + 1);
  await expect(readSettingsFile(large)).rejects.toThrow('a configuration has at most 1048576');
});

test('the command line overrides the file, timeouts and headers one by one', async () => {
  const file = await read(
    'transport = "nccl"\nengine = ["http://a"]\nheaders = { A = "1" }\n[timeouts]\npause = 1\nupdate = 2',
  );
  const flags = validateSettings(
    { transport: 'filesystem', engine: ['http://b'], headers: { B: '2' }, timeouts: { pause: 9 } },
    { kind: 'flags' },
  );
  expect(mergeSettings(file, flags)).toEqual({
    transport: 'filesystem',
    engine: [{ url: 'http://b' }],
    headers: { A: '1', B: '2' },
    timeouts: { pause: 9, update: 2 },
  });
});

test.each([
  ['engine', ['http://b']],
  ['discover', ['dynamo=http://f:8000']],
  ['elastic', ['pods:8000']],
])('%s of the command line replaces all engines of the file', async (key, said) => {
  const file = await read('engine = ["http://a"]\ndiscover = ["dynamo=http://e:8000"]\nelastic = ["old:1"]');
  const flags = validateSettings({ [key]: said }, { kind: 'flags' });
  const merged = mergeSettings(file, flags);
  expect(merged).toEqual(flags);
  expect(mergeSettings(file, validateSettings({ verify: 'none' }, { kind: 'flags' }))).toEqual({
    ...file,
    verify: 'none',
  });
});

test('DYN_RL_PORT says where the listeners are that the text does not name, and is named where it is wrong', () => {
  const options = (text: string, port: string) => fleetOptions({ discover: [text] }, { DYN_RL_PORT: port });
  expect(options('dynamo=http://f:8000', '9001').discover).toMatchObject([{ rlPort: 9001 }]);
  expect(options('dynamo=http://f:8000,rl_port=7', '9001').discover).toMatchObject([{ rlPort: 7 }]);
  expect(options('dynamo=http://f:8000,rl=http://f:7', 'abc').discover).toMatchObject([
    { rlUrl: 'http://f:7' },
  ]);
  const pods = (text: string) => fleetOptions({ elastic: [text] }, { DYN_RL_PORT: '9001' }).elastic?.[0];
  expect(pods('pods:8000,backend=dynamo,discover=http://f:8000')).toMatchObject({ rlPort: 9001 });
  expect(pods('pods:8000,backend=dynamo')).not.toHaveProperty('rlPort');
  for (const port of ['abc', '0', '65536'])
    expect(() => options('dynamo=http://f:8000', port)).toThrow(
      `the environment variable DYN_RL_PORT is "${port}", which is no port number`,
    );
});

test('an address that is none is not corrected to one of another option', () => {
  const wrong = () => fleetOptions({ discover: ['dynamo=frontend:8000'] }, {});
  expect(wrong).toThrow("discover: 'frontend:8000' is not an http or https URL");
  expect(wrong).not.toThrow('vllm=');
});

test('an error of the command line names the flag', () => {
  const problem = (input: object) => {
    try {
      validateSettings(input, { kind: 'flags' });
    } catch (error) {
      return (error as Error).message;
    }
    return null;
  };
  expect(problem({ packed_buffer_bytes: '1 fortnight' })).toContain('--packed-buffer-bytes: must be a size');
  expect(problem({ timeouts: { pause: 'abc' } })).toBe('--timeout-pause: must be a number, not "abc"');
  expect(problem({ engine: ['10.0.0.5:8000'] })).toContain(
    '--engine: must be an http:// or https:// address',
  );
  expect(problem({ engine: ['dynamo=http://a:1,worker=2'] })).toBe(
    '--engine: "worker" after the address is not known; did you mean workers?',
  );
  expect(problem({ engine: ['vllm=http://a:1,rpc=native'] })).toBe(
    '--engine: "rpc" after the address is not for this backend',
  );
  expect(problem({ headers: { X: 'a\nb' } })).toBe('--header X: must be printable ASCII on one line');
});

test('no engine, and emulation together with real libraries, are refused', () => {
  expect(() => fleetOptions({}, {})).toThrow('no engine given');
  expect(() =>
    fleetOptions({ engine: [{ url: 'http://x' }], emulate: true, nccl_library: '/x' }, {}),
  ).toThrow('emulate selects the emulated libraries');
});

test.each([
  ['268435456', 2 ** 28],
  ['256MiB', 2 ** 28],
  ['256 mib', 2 ** 28],
  ['256M', 2 ** 28],
  ['1.5GiB', 1.5 * 2 ** 30],
  ['100MB', 1e8],
  ['12kB', 12_000],
  ['7b', 7],
  ['0.3B', null],
  ['-1', null],
  ['1e9', null],
  ['MiB', null],
  ['', null],
  ['999999999999GiB', null],
])('%s is %s bytes', (text, bytes) => {
  expect(parseByteSize(text)).toBe(bytes);
});

test('no text and no TOML value makes validation throw anything but a named error', () => {
  fc.assert(
    fc.property(fc.object({ maxDepth: 4 }), (input) => {
      try {
        validateSettings(input, { kind: 'file', path: 'f' });
      } catch (error) {
        expect(error).toMatchObject({ code: 'WC_CONFIG_INVALID' });
      }
    }),
  );
});

test('a key is suggested only when it is near', () => {
  expect(nearestKey('master-adress', ['master_address', 'master_port'])).toBe('master_address');
  expect(nearestKey('colour', ['master_address', 'master_port'])).toBeNull();
});

describe('engines of several backends', () => {
  test('are tables with what their backends understand, or the text of the command line', async () => {
    const options = await fromFile(`
      backend = "auto"
      engine = [
        "prime-rl=http://10.0.0.5:8000,workers=2,broadcast=filesystem",
        { url = "http://10.0.0.6:9090", backend = "dynamo", workers = 4, inference = "http://10.0.0.7:8000", rpc = "prime-rl" },
        "http://10.0.0.8:8000",
      ]
    `);
    expect(options).toMatchObject({ backend: 'auto' });
    expect(options.engines).toEqual([
      {
        backend: 'prime-rl',
        url: 'http://10.0.0.5:8000',
        workers: 2,
        parameters: { broadcast: 'filesystem' },
      },
      {
        backend: 'dynamo',
        url: 'http://10.0.0.6:9090',
        workers: 4,
        inferenceUrl: 'http://10.0.0.7:8000',
        parameters: { rpc: 'prime-rl' },
      },
      { url: 'http://10.0.0.8:8000' },
    ]);
  });

  test.each([
    ['{ url = "http://a:1", backend = "prime-rl", brodcast = "nccl" }', 'did you mean broadcast?'],
    ['{ url = "http://a:1", backend = "vllm", rpc = "native" }', 'engine[0].rpc: unknown key'],
    ['{ url = "http://a:1", workers = 0 }', 'engine[0].workers: must be a whole number from 1 to 65536'],
    ['{ url = "http://a:1", inference = "a:2" }', 'engine[0].inference: must be an http://'],
    ['"prime-rl=http://a:1,workers=two"', 'engine[0].workers: must be a number'],
    ['"prime-rl=http://a:1,workers"', 'NAME=VALUE once, such as workers=2'],
    ['"prime-rl=http://a:1,workers=2,workers=3"', 'NAME=VALUE once'],
    ['"prime-rl=http://a:1,wokers=2"', 'engine[0].wokers: unknown key; did you mean workers?'],
  ])('%s is refused', async (engine, message) => {
    await expect(read(`engine = [${engine}]`)).rejects.toThrow(message);
  });
});
