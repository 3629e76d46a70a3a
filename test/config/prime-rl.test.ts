import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resolveSettings } from '../../src/cli/options.js';
import { readPrimeRlFile } from '../../src/config/prime-rl.js';
import { fleetOptions } from '../../src/config.js';
import { errorOf } from '../engines/client.js';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-prime-rl-'));
});
afterAll(() => rm(folder, { recursive: true }));

const ENV = { VLLM_API_KEY: 'secret', TEAM: 'rl' };

async function write(text: string, name = 'rl.toml'): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

const read = async (text: string, env: Record<string, string> = ENV) =>
  readPrimeRlFile(await write(text), env);
const refusal = async (text: string) => {
  const error = await errorOf(read(text));
  expect(error.code).toBe('WC_CONFIG_INVALID');
  return error.message;
};

const CLIENT = '[orchestrator.model.client]\nadmin_base_url = ["http://a:8100/v1", "http://b:8100"]\n';

describe('a prime-rl file', () => {
  it('gives the engines, how to reach them, and how the weights travel', async () => {
    const text = `
      max_steps = 20
      [model]
      name = "Qwen/Qwen3-0.6B"
      [trainer.model]
      unknown_to_us = true

      [orchestrator.model.client]
      base_url = "http://router:8000/v1"
      admin_base_url = ["http://a:8100/v1", "http://b:8100/"]
      wait_for_ready_timeout = 60
      skip_model_check = true
      headers = { X-Team = "rl" }
      headers_from_env = { X-Prime-Team-ID = "TEAM", X-Absent = "ABSENT" }
      extra_headers_from_state = { X-Session-ID = "trajectory_id" }

      [weight_broadcast]
      type = "nccl"
      host = "10.0.0.9"
      port = 29502
      timeout = 600
      quantize_in_weight_transfer = false

      [orchestrator.weight_broadcast]
      type = "nccl"
      inference_world_size = 8
    `;
    const config = await read(text);
    expect(config).toMatchObject({
      discovery: null,
      inference: {
        transport: 'vllm_generate',
        urls: ['http://router:8000'],
        headersFromState: { 'X-Session-ID': 'trajectory_id' },
      },
      model: 'Qwen/Qwen3-0.6B',
      skipModelCheck: true,
      waitForReadyMs: 60_000,
    });
    expect(config.settings).toMatchObject({ timeouts: { ready: 60, rendezvous: 600 } });
    expect(config.settings).not.toHaveProperty('served_model');
    expect(fleetOptions(config.settings, ENV)).toMatchObject({
      engines: [
        { url: 'http://a:8100', backend: 'prime-rl', workers: 4 },
        { url: 'http://b:8100', backend: 'prime-rl', workers: 4 },
      ],
      transport: 'nccl',
      masterAddress: '10.0.0.9',
      masterPort: 29_502,
      timeouts: { rendezvous: 600_000 },
      apiKey: 'secret',
      headers: { 'X-Team': 'rl', 'X-Prime-Team-ID': 'rl' },
    });
  });

  it.each(['orchestrator.client', 'orchestrator.student.client', 'client', 'model.client'])(
    'is read where [%s] is',
    async (table) => {
      const { settings } = await read(`[${table}]\nbase_url = ["http://a:8000/v1", "http://b:8000/v1"]`);
      expect(settings.engine?.map(({ url }) => url)).toEqual(['http://a:8000', 'http://b:8000']);
    },
  );

  it('is also the JSON that the launcher resolves, where null says nothing', async () => {
    const text = JSON.stringify({
      model: { client: { base_url: 'http://a:8000/v1', admin_base_url: null, elastic: null } },
      weight_broadcast: { type: 'filesystem' },
    });
    const { settings } = await readPrimeRlFile(await write(text, 'orchestrator.json'), {});
    expect(settings).toEqual({
      engine: [{ url: 'http://a:8000', backend: 'prime-rl' }],
      transport: 'filesystem',
    });
  });

  it('counts the workers of the launcher where the table does not', async () => {
    const nccl = `${CLIENT}[weight_broadcast]\ntype = "nccl"\n`;
    const workers = async (inference: string) =>
      (await read(nccl + inference)).settings.engine?.map((engine) => engine.workers);
    expect(await workers('[inference.vllm]\ndata_parallel_size = 2\ntensor_parallel_size = 4')).toEqual([
      4, 4,
    ]);
    expect(await workers('[inference.parallel]\ntp = 2')).toEqual([1, 1]);
    expect(await refusal(nccl)).toContain('weight_broadcast.inference_world_size: not given');
    const nodes = '[inference.vllm]\ntensor_parallel_size = 8\n[deployment]\ntype = "multi_node"';
    expect(await refusal(nccl + nodes)).toContain('inference_world_size: not given');
  });

  it('divides the workers evenly or not at all', async () => {
    const message = await refusal(`${CLIENT}[weight_broadcast]\ntype = "nccl"\ninference_world_size = 7`);
    expect(message).toContain("7 workers can't be shared evenly by http://a:8100, http://b:8100");
  });

  it('names Dynamo workers, whose models and scores the frontend has', async () => {
    const { settings, inference } = await read(
      `[orchestrator.client]
       backend = "dynamo"
       base_url = ["http://frontend:8000/v1"]
       admin_base_url = ["http://w1:9090"]
       [orchestrator.weight_broadcast]
       type = "nccl"
       inference_world_size = 2`,
    );
    expect(settings.engine).toEqual([
      {
        url: 'http://w1:9090',
        backend: 'dynamo',
        workers: 2,
        inference: 'http://frontend:8000',
        parameters: { rpc: 'prime-rl' },
      },
    ]);
    expect(inference.transport).toBe('dynamo_chat');
  });

  it.each<[string, string, Record<string, string>, readonly string[]]>([
    [
      'the RL listeners',
      'backend = "dynamo"\nbase_url = "http://f:8000/v1"\nrl_base_url = ["http://f:7001", "http://g:7001"]',
      { DYN_RL_PORT: '9001' },
      ['dynamo=http://f:8000,rl=http://f:7001', 'dynamo=http://f:8000,rl=http://g:7001'],
    ],
    [
      'the listener of a managed Dynamo',
      'dynamo = { enabled = true, discovery_url = "http://f:9" }\nbase_url = "http://f:8000/v1"',
      {},
      ['dynamo=http://f:8000,rl=http://f:9'],
    ],
    [
      'the next port of a managed Dynamo, whatever DYN_RL_PORT says',
      'dynamo = { enabled = true }\nbase_url = ["http://f:8100/v1", "http://g/v1"]',
      { DYN_RL_PORT: '9001' },
      ['dynamo=http://f:8100,rl=http://f:8101', 'dynamo=http://g,rl=http://g:81'],
    ],
    [
      'the usual port of the frontends',
      'backend = "dynamo"\nbase_url = ["http://f:8000/v1", "http://[::1]:8000/v1"]',
      {},
      ['dynamo=http://f:8000,rl=http://f:8001', 'dynamo=http://[::1]:8000,rl=http://[::1]:8001'],
    ],
    [
      'DYN_RL_PORT of the frontends',
      'backend = "dynamo"\nbase_url = "http://f:8000/v1"',
      { DYN_RL_PORT: '9001' },
      ['dynamo=http://f:8000,rl=http://f:9001'],
    ],
  ])('finds Dynamo workers by %s', async (_, lines, env, discover) => {
    const { settings, discovery } = await read(`[client]\n${lines}`, env);
    expect(settings).toMatchObject({ discover });
    expect(discovery?.kind).toBe('dynamo');
    expect(settings.engine).toBeUndefined();
    const options = fleetOptions(settings, env);
    expect(options.discover?.map((spec) => (typeof spec === 'string' ? spec : spec.rlUrl))).toEqual(
      discover.map((text) => text.split('rl=')[1]),
    );
  });

  it('says how long to wait for engines, and what they must serve', async () => {
    const waits = `[model]\nname = "m"\n${CLIENT}wait_for_ready_timeout = 90`;
    expect((await read(waits)).settings).toMatchObject({ served_model: 'm', timeouts: { ready: 90 } });
    const found = await read('[client]\nelastic = { hostname = "p" }\nwait_for_ready_timeout = 90');
    expect(found.settings.timeouts).toEqual({ discovery: 90 });
    expect(fleetOptions(found.settings, ENV).timeouts).toEqual({ discovery: 90_000 });
  });

  it("waits for the whole of a Dynamo deployment, whose workers are prime-rl's where NCCL updates them", async () => {
    const { settings } = await read(
      '[client]\nbackend = "dynamo"\nbase_url = "http://f:8000/v1"\n[weight_broadcast]\ntype = "nccl"\ninference_world_size = 4',
    );
    expect(settings.discover).toEqual(['dynamo=http://f:8000,rl=http://f:8001,world_size=4,rpc=prime-rl']);
    expect(fleetOptions(settings, ENV).discover).toMatchObject([{ worldSize: 4, rpc: 'prime-rl' }]);
  });

  it.each([
    ['', undefined],
    ['timeout = 110', { rendezvous: 110 }],
  ])(
    "leaves Dynamo's workers the time that they give themselves, unless it says another: '%s'",
    async (line, timeouts) => {
      const text = `[client]\nbackend = "dynamo"\n[weight_broadcast]\ntype = "nccl"\n${line}`;
      expect((await read(text)).settings.timeouts).toEqual(timeouts);
    },
  );

  it('finds an elastic pool by its name, whose requests go to the router', async () => {
    const { settings, inference } = await read(
      '[client]\nrouter_url = "http://router:80/v1"\nelastic = { hostname = "pods", sync_interval = 2.5 }',
    );
    expect(inference.urls).toEqual(['http://router:80']);
    expect(fleetOptions(settings, ENV)).toMatchObject({
      engines: [],
      elastic: [{ hostname: 'pods', port: 8000, backend: 'prime-rl' }],
      routerUrl: 'http://router:80',
      pool: { intervalMs: 2500 },
    });
    const bracketed = await read('[client]\nelastic = { hostname = "::1", port = 81 }');
    expect(fleetOptions(bracketed.settings, ENV).elastic).toMatchObject([{ hostname: '::1', port: 81 }]);
  });

  it.each(['base_url', 'admin_base_url', 'rl_base_url', 'router_url'])(
    'refuses a password in %s, and does not show it',
    async (key) => {
      const message = await refusal(`[client]\nbackend = "dynamo"\n${key} = "http://me:hunter2@a:8000/v1"`);
      expect(message).toContain('http://…@a:8000/v1 has a user or password in it');
      expect(message).not.toContain('hunter2');
    },
  );

  it('has no key where the variable says EMPTY, or nothing', async () => {
    for (const env of [{}, { VLLM_API_KEY: 'EMPTY' }] as Record<string, string>[]) {
      expect((await read(CLIENT, env)).settings).not.toHaveProperty('api_key_env');
    }
    const own = `${CLIENT}api_key_var = "OTHER"\n`;
    expect((await read(own, { OTHER: 'x' })).settings.api_key_env).toBe('OTHER');
  });

  it.each([
    [
      'a key that prime-rl does not have',
      `${CLIENT}admin_base_ulr = "x"`,
      'orchestrator.model.client.admin_base_ulr: unknown key; did you mean admin_base_url?',
    ],
    [
      'an unknown key in the broadcast',
      `${CLIENT}[weight_broadcast]\ntype = "nccl"\nhots = "x"`,
      'weight_broadcast.hots: unknown key; did you mean host?',
    ],
    [
      'an unknown key of the elastic pool',
      '[client]\nelastic = { hostname = "p", prot = 1 }',
      'client.elastic.prot: unknown key',
    ],
    ['a wrong type', '[client]\nskip_model_check = "no"', 'client.skip_model_check: '],
    ['a broadcast without a type', `${CLIENT}[weight_broadcast]\nport = 1`, 'weight_broadcast.type: '],
    [
      'two clients',
      `${CLIENT}[orchestrator.client]\nbase_url = "http://c"`,
      'the client is given twice, in orchestrator.model.client and in orchestrator.client',
    ],
    ['no client', '[trainer]\nx = 1', 'no client table'],
    [
      'components that disagree',
      `${CLIENT}[trainer.weight_broadcast]\ntype = "nccl"\n[orchestrator.weight_broadcast]\ntype = "filesystem"`,
      'trainer.weight_broadcast.type is nccl, and orchestrator.weight_broadcast.type is filesystem',
    ],
    [
      'NIXL',
      `${CLIENT}[weight_broadcast]\ntype = "nixl"\nsession_id = "s"`,
      'weight_broadcast.type: nixl is a pull by RDMA',
    ],
    [
      'quantized weights',
      `${CLIENT}[weight_broadcast]\ntype = "nccl"\nquantize_in_weight_transfer = true`,
      "weight_broadcast.quantize_in_weight_transfer: prime-rl's model code makes",
    ],
    [
      'pickles',
      `${CLIENT}[trainer.weight_broadcast]\ntype = "filesystem"\nsave_format = "torch"`,
      'weight_broadcast.save_format: torch files are pickles',
    ],
    ['no address', '[client]\nbase_url = "localhost:8000"', 'localhost:8000 is not an http or https address'],
    [
      'elastic Dynamo',
      '[client]\nbackend = "dynamo"\nelastic = { hostname = "p" }',
      'Dynamo finds its own workers',
    ],
  ])('is refused for %s', async (_, text, message) => {
    expect(await refusal(text)).toContain(message);
  });

  it('shows no header in what it says', async () => {
    expect(await refusal(`${CLIENT}headers = { Authorization = 7, X = "hunter2" }`)).not.toContain('hunter2');
  });
});

describe('--prime-rl-config', () => {
  it('is under the file and the command line', async () => {
    const primeRlConfig = await write(`${CLIENT}[weight_broadcast]\ntype = "filesystem"`);
    const config = await write('verify = "none"\ntransport = "nccl"', 'weightcast.toml');
    const settings = await resolveSettings({ primeRlConfig, config, pauseMode: 'wait' });
    expect(settings).toMatchObject({
      engine: [{ url: 'http://a:8100' }, { url: 'http://b:8100' }],
      transport: 'nccl',
      verify: 'none',
      pause_mode: 'wait',
    });
  });

  it('reaches a fleet that is to be found, unless the command line names another', async () => {
    const primeRlConfig = await write('[client]\nelastic = { hostname = "pods" }');
    const settings = await resolveSettings({ primeRlConfig });
    expect(fleetOptions(settings, {}).elastic).toMatchObject([{ hostname: 'pods', port: 8000 }]);
    const given = fleetOptions(await resolveSettings({ primeRlConfig, engine: ['http://a:1'] }), {});
    expect([given.engines, given.elastic]).toEqual([[{ url: 'http://a:1' }], undefined]);
  });

  it('takes engines with their workers by the command line, and by tables', async () => {
    const settings = await resolveSettings({ engine: ['prime-rl=http://a:8000,workers=2'] });
    expect(fleetOptions(settings, {}).engines).toEqual([
      { url: 'http://a:8000', workers: 2, backend: 'prime-rl' },
    ]);
    const config = await write(
      '[[engine]]\nurl = "http://w:9090"\nbackend = "dynamo"\nworkers = 2\ninference = "http://f:8000"\nparameters = { rpc = "prime-rl" }',
      'tables.toml',
    );
    expect(fleetOptions(await resolveSettings({ config }), {}).engines).toEqual([
      {
        url: 'http://w:9090',
        backend: 'dynamo',
        workers: 2,
        inferenceUrl: 'http://f:8000',
        parameters: { rpc: 'prime-rl' },
      },
    ]);
  });
});
