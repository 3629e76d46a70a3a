/** Which dialect a worker speaks: by discovery's routes, by what the user says, or by asking what has no effect. */
import { describe, expect, it } from 'vitest';
import { connectDynamo } from '../../../src/engines/dynamo/connect.js';
import type { EngineTarget } from '../../../src/engines/http.js';
import { connectEngine, parseEngine } from '../../../src/engines/registry.js';
import { errorOf, expectCode, withClient } from '../client.js';
import { type Handler, type TestServer, target, withServer } from '../server.js';
import { noted, recordings, vectorText } from './recordings.js';

/** A system port with these engine routes; each refuses `{}` in its own way. */
function systemPort(routes: Readonly<Record<string, unknown>>): Handler {
  return (request, response) => {
    const plain = { 'content-type': 'text/plain; charset=utf-8' };
    if (request.path === '/metrics') {
      response.writeHead(200, plain).end(vectorText('mocker_metrics.txt'));
    } else if (request.path.startsWith('/engine/')) {
      const route = request.path.slice('/engine/'.length);
      const known = Object.hasOwn(routes, route);
      const missing = { error: 'Route not found', message: `Route /engine/${route} not found` };
      response.writeHead(known ? 200 : 404, plain).end(JSON.stringify(known ? routes[route] : missing));
    } else {
      response.writeHead(404, plain).end('Route not found');
    }
  };
}

const UNTOUCHED = { status: 'ok', version: null, version_declared: false };
const REFUSED = { status: 'error', message: "Missing 'weight_version' in body" };

async function connected(
  handler: Handler,
  changes: Partial<EngineTarget>,
  check: (admin: Awaited<ReturnType<typeof connectDynamo>>, server: TestServer) => void,
): Promise<void> {
  await withServer(handler, (server) =>
    withClient({}, async (http) => {
      check(await connectDynamo(http, target(server.url, { backend: 'dynamo', ...changes })), server);
    }),
  );
}

const asked = ({ received }: TestServer) => received.map(({ path }) => path);

describe('a worker that is given by hand', () => {
  it('is a Python worker when it has the bare routes, and nothing with an effect was asked', async () => {
    await connected(
      systemPort({ get_weight_version: UNTOUCHED, set_weight_version: REFUSED }),
      {},
      (admin, server) => {
        expect(admin).toMatchObject({ backend: 'dynamo', version: 'python worker' });
        expect(admin.setWeightVersion('7')).not.toBeNull();
        expect(asked(server)).toEqual([
          '/engine/get_weight_version',
          '/engine/set_weight_version',
          '/metrics',
        ]);
        expect(server.received.map(({ body }) => body)).toEqual(['{}', '{}', '']);
      },
    );
  });

  it('of an older Dynamo can not set its version alone', async () => {
    await connected(systemPort({ get_weight_version: UNTOUCHED }), {}, (admin) =>
      expect(admin.setWeightVersion('7')).toBeNull(),
    );
  });

  it('is a sidecar, or SGLang, by theirs', async () => {
    await connected(
      systemPort({ 'control/get_weight_version': { weight_version: 'default' } }),
      {},
      (admin) => expect(admin.version).toBe('sidecar'),
    );
    const refuses = { success: false, message: 'new_version is required' };
    await connected(systemPort({ 'control/update_weight_version': refuses }), {}, (admin) =>
      expect(admin.version).toBe('sglang worker'),
    );
  });

  it('is what the user says', async () => {
    await connected(systemPort({}), { parameters: { dialect: 'sidecar' } }, (admin, server) => {
      expect(admin.version).toBe('sidecar');
      expect(asked(server)).toEqual(['/metrics']);
    });
  });

  it('may be reached without metrics', async () => {
    const handler: Handler = (request, response, socket) =>
      request.path === '/metrics'
        ? void response.writeHead(404).end('Route not found')
        : systemPort({ get_weight_version: UNTOUCHED })(request, response, socket);
    await connected(handler, {}, (admin) => expect(admin.version).toBe('python worker'));
  });

  it('says what is missing without a frontend', async () => {
    const routes = { get_weight_version: UNTOUCHED };
    await connected(systemPort(routes), {}, (admin) =>
      expect(admin.notes).toContainEqual(expect.stringContaining('inference=http://HOST:8000')),
    );
    await connected(systemPort(routes), { inferenceUrl: 'http://front:8000' }, (admin) =>
      expect(admin.notes).toEqual([]),
    );
  });
});

describe('a worker that discovery listed', () => {
  const listedRoutes = () => {
    const { response } = noted('rl discovery', { from: recordings('vllm_discovery') });
    return (response as { workers: { routes: string[] }[] }).workers[0]?.routes ?? [];
  };

  it('is known by its routes, and not asked', async () => {
    const parameters = {
      routes: listedRoutes().join(' '),
      model: 'tiny',
      instance_id: '6086077164819830776',
    };
    await connected(systemPort({}), { parameters, inferenceUrl: 'http://front:8000' }, (admin, server) => {
      expect(asked(server)).toEqual(['/metrics']);
      expect(admin.version).toBe('python worker');
      expect(admin.capabilities).toMatchObject({ wire: 'vllm', diskLoad: true, weightVersion: true });
      expect(admin.setWeightVersion('7')).not.toBeNull();
    });
  });

  it('can do what its routes can', async () => {
    const routes = listedRoutes().filter((route) => !/distributed|set_weight|flush/.test(route));
    await connected(systemPort({}), { parameters: { routes: routes.join(',') } }, (admin) => {
      expect(admin.capabilities).toMatchObject({ wire: null, diskLoad: true });
      expect(admin.setWeightVersion('7')).toBeNull();
      expect(admin.resetPrefixCache({ resetRunningRequests: false })).toBeNull();
    });
  });

  it('is a sidecar by control/ and update/, and SGLang by continue_generation', async () => {
    const sidecar =
      'control/pause_generation control/resume_generation control/is_paused update/update_weight_version';
    await connected(systemPort({}), { parameters: { routes: sidecar } }, (admin) => {
      expect(admin.version).toBe('sidecar');
      expect(admin.capabilities).toMatchObject({ wire: null, diskLoad: false, weightVersion: false });
    });
    const sglang = 'pause_generation continue_generation control/update_weights_from_disk';
    await connected(systemPort({}), { parameters: { routes: sglang } }, (admin) =>
      expect(admin.version).toBe('sglang worker'),
    );
  });

  it('can be driven by the vllm backend where its vLLM has an admin server', async () => {
    const parameters = { routes: 'pause_generation', admin_base_url: 'http://10.0.0.7:8100' };
    await connected(systemPort({}), { parameters }, (admin) =>
      expect(admin.notes).toContainEqual(expect.stringContaining('vllm=http://10.0.0.7:8100')),
    );
  });

  it('is refused when none of its routes updates weights', async () => {
    await withServer(systemPort({}), ({ url }) =>
      withClient({}, async (http) => {
        const engine = target(url, { parameters: { routes: 'control/start_profile boom' } });
        const error = await expectCode(connectDynamo(http, engine), 'WC_ENGINE_NOT_CONFIGURED');
        expect(error.remedy).toContain('--enable-rl');
      }),
    );
  });
});

describe('an address that is no worker', () => {
  const connect = (handler: Handler) => {
    let seen: Awaited<ReturnType<typeof errorOf>> | null = null;
    return withServer(handler, ({ url }) =>
      withClient({}, async (http) => {
        seen = await errorOf(connectDynamo(http, target(url)));
      }),
    ).then(() => seen ?? expect.unreachable('it connected'));
  };

  it("is named when it is Dynamo's frontend", async () => {
    const error = await connect((request, response) => {
      const message = `Route not found: POST ${request.path}`;
      response.writeHead(404, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ message, type: 'Not Found', code: 404 }));
    });
    expect(error).toMatchObject({ code: 'WC_ENGINE_PROTOCOL' });
    expect(error.message).toContain("Dynamo's frontend");
    expect(error.remedy).toContain('--discover dynamo=URL');
  });

  it('is refused when it is a vLLM server, or a mocker', async () => {
    const vllm = await connect((_, response) => void response.writeHead(404).end('{"detail":"Not Found"}'));
    expect(vllm.code).toBe('WC_ENGINE_PROTOCOL');
    const mocker = await connect(systemPort({}));
    expect(mocker.code).toBe('WC_ENGINE_NOT_CONFIGURED');
    expect(mocker.remedy).toContain('a mocker has no such routes');
  });
});

describe('--engine dynamo=…', () => {
  it('takes what only Dynamo understands', () => {
    const engine = parseEngine(
      'dynamo=http://10.0.0.7:9090,workers=2,inference=http://front:8000,dialect=python,rpc=prime-rl,vllm=0.31.0',
    );
    expect(engine).toMatchObject({
      backend: 'dynamo',
      url: 'http://10.0.0.7:9090',
      workers: 2,
      inferenceUrl: 'http://front:8000',
      parameters: { dialect: 'python', rpc: 'prime-rl', vllm: '0.31.0' },
    });
  });

  it.each(['dialect=rust', 'rpc=nixl', 'vllm=new', 'instance_id=0x1f'])(
    'refuses %s before it asks anybody',
    async (word) => {
      await withClient({}, async (http) => {
        const error = await expectCode(
          connectEngine(http, parseEngine(`dynamo=http://127.0.0.1:9,${word}`)),
          'WC_CONFIG_INVALID',
        );
        expect(error.message).toContain(word);
      });
    },
  );
});
