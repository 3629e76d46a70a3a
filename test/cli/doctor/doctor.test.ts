import { describe, expect, test } from 'vitest';
import type { EngineCheck } from '../../../src/cli/doctor/engines.js';
import { checkEngine, judgeEngine } from '../../../src/cli/doctor/engines.js';
import { renderFindings } from '../../../src/cli/doctor/finding.js';
import { judgeNode } from '../../../src/cli/doctor.js';
import { createHttpClient } from '../../../src/engines/http.js';
import { sendJson, target, withServer } from '../../engines/server.js';

const ADMIN = [
  '/pause',
  '/resume',
  '/is_paused',
  '/get_world_size',
  '/collective_rpc',
  '/reset_prefix_cache',
];
const TRANSFER = [
  '/init_weight_transfer_engine',
  '/start_weight_update',
  '/update_weights',
  '/finish_weight_update',
];
const NEWER = [
  '/weight_info',
  '/update_weight_version',
  '/weight_checker',
  '/shutdown_weight_transfer_engine',
];

const answers = (routes: readonly string[]): Record<string, unknown> => ({
  '/version': { version: '0.32.0' },
  '/openapi.json': { paths: Object.fromEntries(routes.map((route) => [route, {}])) },
  '/health': {},
  '/v1/models': { object: 'list', data: [{ id: 'tiny', object: 'model', root: '/models/m1', parent: null }] },
  '/get_world_size': { world_size: 2 },
  '/is_paused': { is_paused: false },
  '/weight_info': { weight_version: '42' },
  '/server_info': {
    vllm_config: { weight_transfer_config: { backend: 'nccl' } },
    system_env: { torch_version: '2.12.0' },
  },
});

/** What is found at a server that answers so; `key` is the one that it asks for. */
async function examined(over: Record<string, unknown>, options: { asks?: string; given?: string } = {}) {
  const all: Record<string, unknown> = { ...answers([...ADMIN, ...TRANSFER, ...NEWER]), ...over };
  let check: EngineCheck | null = null;
  await withServer(
    ({ path, headers }, response) => {
      const refused = options.asks !== undefined && headers.authorization !== `Bearer ${options.asks}`;
      if (refused) sendJson(response, 401, { error: 'Unauthorized' });
      else if (all[path] === undefined) sendJson(response, 404, { detail: 'Not Found' });
      else sendJson(response, 200, all[path]);
    },
    async ({ url, received }) => {
      await using http = createHttpClient({ retry: { attempts: 1 } });
      const access = target(url, { apiKey: options.given ?? null });
      check = await checkEngine(http, access, { transport: 'nccl', timeoutMs: 5000 });
      expect(received.filter(({ method }) => method !== 'GET')).toEqual([]);
    },
  );
  return check!;
}

const wrong = ({ findings }: EngineCheck) =>
  findings.filter(({ verdict }) => verdict === 'wrong').map(({ text }) => text);

describe('an engine', () => {
  test('that is well is described, by questions alone', async () => {
    const engine = await examined({});
    expect(engine).toMatchObject({
      backend: 'vllm',
      version: '0.32.0',
      models: ['tiny'],
      workers: 2,
      paused: false,
      weightVersion: '42',
      info: { weightTransfer: true, torchVersion: '2.12.0' },
    });
    expect(wrong(engine)).toEqual([]);
  });

  test('whose admin routes answer without a key is warned about', async () => {
    const open = await examined({});
    expect(open.adminRoutesOpen).toBe(true);
    expect(open.findings).toContainEqual(
      expect.objectContaining({ verdict: 'warning', text: expect.stringContaining('without a key') }),
    );
    const guarded = await examined({}, { asks: 'secret', given: 'secret' });
    expect(guarded.adminRoutesOpen).toBe(false);
    expect(guarded.findings.some(({ verdict }) => verdict === 'warning')).toBe(false);
  });

  test('that was left paused is wrong', async () => {
    const paused = await examined({ '/is_paused': { is_paused: true } });
    expect(wrong(paused)).toEqual(['is paused: an earlier push may have died in it']);
  });

  test('without development mode is wrong, and the remedy says how to start it', async () => {
    const { findings } = await examined({ '/openapi.json': { paths: { '/v1/models': {} } } });
    expect(findings).toMatchObject([
      { verdict: 'wrong', remedy: expect.stringContaining('VLLM_SERVER_DEV_MODE=1') },
    ]);
  });

  test('that refuses the key is wrong', async () => {
    const { findings } = await examined({}, { asks: 'secret' });
    expect(findings).toMatchObject([{ verdict: 'wrong', remedy: expect.stringContaining('--api-key-env') }]);
  });

  test('of which one answer is missing is wrong, and the rest is told', async () => {
    const engine = await examined({ '/get_world_size': { world_size: 'two' } });
    expect(engine).toMatchObject({ workers: null, paused: false, models: ['tiny'] });
    expect(wrong(engine)).toEqual([expect.stringContaining('world_size')]);
  });

  test('that does not answer is wrong', async () => {
    await using http = createHttpClient({ retry: { attempts: 1 } });
    const engine = await checkEngine(http, target('http://127.0.0.1:9'), {
      transport: 'nccl',
      timeoutMs: 5000,
    });
    expect(wrong(engine)).toEqual([expect.stringContaining('http://127.0.0.1:9/version is unreachable')]);
  });
});

describe('what facts mean', () => {
  const facts: Omit<EngineCheck, 'findings'> = {
    id: 'http://e',
    backend: 'vllm',
    version: '0.32.0',
    capabilities: null,
    models: [],
    workers: null,
    paused: null,
    weightVersion: null,
    adminRoutesOpen: null,
    info: null,
  };
  const info = (weightTransfer: boolean | null) => ({ info: { weightTransfer, torchVersion: null } });
  test.each<[string, Partial<EngineCheck>, boolean, string[]]>([
    ['no weight transfer, which NCCL needs', info(false), true, ['wrong']],
    ['no weight transfer, which files do not need', info(false), false, ['note']],
    ['weight transfer', info(true), true, ['ok']],
    ['weight transfer not told', info(null), true, ['note']],
    ['weight transfer not told, and not needed', info(null), false, []],
  ])('%s', (_, over, nccl, verdicts) => {
    expect(judgeEngine({ ...facts, ...over }, nccl).map(({ verdict }) => verdict)).toEqual(verdicts);
  });

  test('of other backends nothing is said that only vLLM has', () => {
    const other = { ...facts, backend: 'prime-rl', paused: true };
    const findings = judgeEngine(other, true);
    expect(findings.map(({ text }) => text)).toEqual(['is paused: an earlier push may have died in it']);
  });
});

test.each([
  ['20.19.0', 'ok'],
  ['20.18.3', 'wrong'],
  ['21.7.0', 'wrong'],
  ['22.13.1', 'ok'],
  ['22.12.0', 'wrong'],
  ['23.1.0', 'wrong'],
  ['26.0.0', 'ok'],
])('node %s is %s', (version, verdict) => {
  expect(judgeNode(version).verdict).toBe(verdict);
});

test('findings are a line each with what to do below, and a count at the end', () => {
  const text = renderFindings(
    [
      { verdict: 'ok', about: 'node', text: '20.20.2', remedy: null },
      { verdict: 'wrong', about: 'nccl', text: 'not found\u001b[2J', remedy: 'Install it.' },
      { verdict: 'warning', about: 'e', text: 'open', remedy: null },
    ],
    false,
  );
  expect(text).toBe(
    'ok       node: 20.20.2\nwrong    nccl: not found [2J\n         → Install it.\nwarning  e: open\n1 problem, 1 warning\n',
  );
});
