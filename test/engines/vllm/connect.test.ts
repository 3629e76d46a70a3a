/** Connecting to a server that answers like the recorded ones. */
import { describe, expect, it } from 'vitest';
import type { Exchange } from '../../../src/engines/admin.js';
import { createHttpClient } from '../../../src/engines/http.js';
import { connectEngine } from '../../../src/engines/registry.js';
import { adminRoutesOpen, connectVllm } from '../../../src/engines/vllm/connect.js';
import { selectDialect } from '../../../src/engines/vllm-native/dialects.js';
import { type Handler, sendJson, target, withServer } from '../server.js';
import { recorded, routes, VERSIONS, type Version } from './recordings.js';

const withClient = () => createHttpClient({ retry: { minDelayMs: 1, maxDelayMs: 1 } });

/** A server that gives `version` and the recorded routes, and answers all else as the recording does. */
function server(
  version: Version,
  changes: { version?: string; openapi?: boolean; devMode?: boolean } = {},
): Handler {
  const { openapi = true, devMode = true } = changes;
  const phase = devMode ? undefined : 'N';
  return (request, response) => {
    if (request.path === '/version') return sendJson(response, 200, { version: changes.version ?? version });
    if (request.path === '/openapi.json' && openapi) {
      const all = Object.entries(routes(version));
      const open = ['/health', '/version', '/v1/models', '/v1/completions', '/metrics'];
      const listed = devMode ? all : all.filter(([path]) => open.includes(path));
      return sendJson(response, 200, { openapi: '3.1.0', paths: Object.fromEntries(listed) });
    }
    const found = recorded(version).find(
      (entry) =>
        entry.method === request.method &&
        entry.path === request.path &&
        (phase === undefined || entry.phase === phase),
    );
    sendJson(response, found?.status ?? 404, found?.response ?? { detail: 'Not Found' });
  };
}

function capabilitiesOf(version: string) {
  const { capabilities, sparse } = selectDialect(version).dialect;
  return { ...capabilities, sparse };
}

describe('connecting', () => {
  it('knows the backend of weight transfer that the user names, and no other word for it', async () => {
    await withServer(server('0.32.0'), async ({ target }) => {
      await using http = withClient();
      const named = (transfer: string) => connectEngine(http, { ...target, parameters: { transfer } });
      expect((await named('sparse_nccl')).capabilities.transferBackend).toBe('sparse_nccl');
      expect((await named('nccl')).capabilities.transferBackend).toBe('nccl');
      await expect(named('dense')).rejects.toMatchObject({ code: 'WC_CONFIG_INVALID' });
    });
  });

  it.each(VERSIONS)('to %s asks for the version and the routes and nothing else', async (version) => {
    await withServer(server(version), async ({ target, received }) => {
      await using http = withClient();
      const admin = await connectEngine(http, target);
      expect(admin.version).toBe(version);
      expect(admin.backend).toBe('vllm');
      expect(admin.notes).toEqual([]);
      expect(admin.capabilities).toEqual(capabilitiesOf(version));
      expect(received.map((r) => `${r.method} ${r.path}`)).toEqual(['GET /version', 'GET /openapi.json']);
      expect(await http.exchange(target, admin.worldSize() as Exchange<number>)).toBe(1);
    });
  });

  it('to a newer version uses the newest row and says so', async () => {
    await withServer(server('0.33.0', { version: '0.41.0' }), async ({ target }) => {
      await using http = withClient();
      const admin = await connectVllm(http, target);
      expect(admin.version).toBe('0.41.0');
      expect(admin.notes.join()).toContain('newer');
      expect(admin.capabilities).toEqual(capabilitiesOf('0.33.0'));
    });
  });

  it('to an older one ends there', async () => {
    await withServer(server('0.16.0', { version: '0.15.0' }), async ({ target, received }) => {
      await using http = withClient();
      await expect(connectVllm(http, target)).rejects.toMatchObject({
        code: 'WC_ENGINE_VERSION',
        engine: target.id,
      });
      expect(received).toHaveLength(1);
    });
  });

  it('without the list of routes goes by the version, notes it, and still finds the admin routes', async () => {
    await withServer(server('0.32.0', { openapi: false }), async ({ target, received }) => {
      await using http = withClient();
      const admin = await connectVllm(http, target);
      expect(admin.notes.join()).toContain('/openapi.json');
      expect(received.map((r) => r.path)).toEqual(['/version', '/openapi.json', '/get_world_size']);
      expect(received.every((r) => r.method === 'GET')).toBe(true);
    });
  });

  it.each([true, false])(
    'to a server without development mode says how to switch it on (openapi: %s)',
    async (openapi) => {
      await withServer(server('0.32.0', { devMode: false, openapi }), async ({ target }) => {
        await using http = withClient();
        await expect(connectVllm(http, target)).rejects.toMatchObject({
          code: 'WC_ENGINE_DEV_MODE',
          engine: target.id,
          remedy: expect.stringContaining('VLLM_SERVER_DEV_MODE=1'),
        });
      });
    },
  );

  it('to a prime-rl server says what it is, and not to start it in development mode', async () => {
    const paths = { '/update_weights': {}, '/init_broadcaster': {}, '/pause': {}, '/resume': {} };
    const primeRl: Handler = ({ path }, response) =>
      sendJson(response, 200, path === '/version' ? { version: '0.26.0' } : { openapi: '3.1.0', paths });
    await withServer(primeRl, async ({ target }) => {
      await using http = withClient();
      await expect(connectVllm(http, target)).rejects.toMatchObject({
        code: 'WC_ENGINE_PROTOCOL',
        remedy: `Name it prime-rl=${target.url}`,
      });
    });
  });

  it('to something else says that it is no vLLM, and knows the habit of ending in /v1', async () => {
    await withServer(
      (_, response) => sendJson(response, 404, { detail: 'Not Found' }),
      async ({ url }) => {
        await using http = withClient();
        await expect(connectVllm(http, target(url))).rejects.toMatchObject({
          code: 'WC_ENGINE_PROTOCOL',
          remedy: expect.stringContaining(`auto=${url}`),
        });
        await expect(connectVllm(http, target(`${url}/v1`))).rejects.toMatchObject({
          remedy: `Leave out /v1: ${url}`,
        });
      },
    );
  });

  it('to a server whose version is no string is refused', async () => {
    await withServer(
      (_, response) => sendJson(response, 200, { version: 33 }),
      async ({ target }) => {
        await using http = withClient();
        await expect(connectVllm(http, target)).rejects.toMatchObject({ code: 'WC_ENGINE_PROTOCOL' });
      },
    );
  });

  it('stops when it is aborted', async () => {
    await withServer(
      () => {},
      async ({ target, received }) => {
        await using http = withClient();
        const controller = new AbortController();
        const pending = connectVllm(http, target, { signal: controller.signal });
        pending.catch(() => {});
        await expect.poll(() => received.length).toBe(1);
        controller.abort();
        await expect(pending).rejects.toMatchObject({ code: 'WC_UPDATE_ABORTED' });
      },
    );
  });
});

describe('admin routes', () => {
  it('are open when a stranger gets through: he is asked for without key and headers', async () => {
    await withServer(server('0.32.0'), async ({ url, received }) => {
      await using http = withClient();
      const engine = target(url, { apiKey: 'k', headers: { 'x-token': 't' } });
      expect(await adminRoutesOpen(http, engine)).toBe(true);
      expect(received[0]?.headers.authorization).toBeUndefined();
      expect(received[0]?.headers['x-token']).toBeUndefined();
    });
  });

  it.each([401, 403, 404])('are not when he gets a %i', async (status) => {
    await withServer(
      (_, response) => sendJson(response, status, {}),
      async ({ target }) => {
        await using http = withClient();
        expect(await adminRoutesOpen(http, target)).toBe(false);
      },
    );
  });
});
