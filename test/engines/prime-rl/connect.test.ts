import { describe, expect, it } from 'vitest';
import { connectEngine, parseEngine } from '../../../src/engines/registry.js';
import { expectCode, withClient } from '../client.js';
import { type RawHandler, type RawRequest, withRawServer } from './raw-server.js';
import { openApi, type Release, ROUTES } from './support.js';

const lists =
  (routes: readonly string[]): RawHandler =>
  () => ({ status: 200, body: openApi(routes) });

/** Without documentation: 405 where a route takes only POST, 404 where there is none. */
const hides =
  (routes: readonly string[]): RawHandler =>
  ({ line }) => {
    const path = line.split(' ')[1] ?? '';
    if (path === '/openapi.json' || !routes.includes(path))
      return { status: 404, body: { detail: 'Not Found' } };
    if (path === '/liveness') return { status: 200, body: { status: 'ok' } };
    return { status: 405, body: { detail: 'Method Not Allowed' } };
  };

async function connected<T>(
  handler: RawHandler,
  words: string,
  use: (
    admin: Promise<Awaited<ReturnType<typeof connectEngine>>>,
    requests: readonly RawRequest[],
  ) => Promise<T>,
  options: Parameters<typeof connectEngine>[2] = {},
): Promise<void> {
  await withRawServer(handler, (url, requests) =>
    withClient({}, async (http) => {
      const target = parseEngine(`prime-rl=${url}${words}`);
      await use(connectEngine(http, target, options), requests);
    }),
  );
}

const RELEASES: readonly (readonly [Release, string])[] = [
  ['0.3', '0.2 or 0.3'],
  ['0.4', '0.4'],
  ['0.5', '0.5'],
  ['0.8', '0.6 or later'],
];

describe.each([
  ['lists its routes', lists],
  ['hides its documentation', hides],
] as const)('a server that %s', (_, serve) => {
  it.each(RELEASES)('is known for what it is: %s', async (release, version) => {
    await connected(serve(ROUTES[release]), ',pause=none', async (admin, requests) => {
      expect((await admin).version).toBe(version);
      // Nothing that was sent has effects.
      expect(requests.every(({ line }) => line.startsWith('GET '))).toBe(true);
    });
  });

  it('is refused in development mode, where vLLM’s routes shadow prime-rl’s', async () => {
    await connected(serve([...ROUTES['0.8'], '/is_paused', '/collective_rpc']), '', async (admin) => {
      const error = await expectCode(admin, 'WC_ENGINE_DEV_MODE');
      expect(error.remedy).toContain('without VLLM_SERVER_DEV_MODE');
    });
  });

  it('is refused when it is none of prime-rl’s', async () => {
    await connected(serve(['/health', '/v1/models']), '', async (admin) => {
      expect((await expectCode(admin, 'WC_ENGINE_PROTOCOL')).remedy).toContain('not of a router');
    });
  });

  it('can’t be told apart from an engine that receives nothing, unless /init_broadcaster is there', async () => {
    const routes = ROUTES['0.8'].filter((route) => route !== '/init_broadcaster');
    await connected(serve(routes), '', async (admin) => {
      const { capabilities, notes } = await admin;
      expect(capabilities.wire).toBeNull();
      expect(notes).toContainEqual(expect.stringContaining('no /init_broadcaster'));
    });
  });
});

it('an address that ends in /v1, as prime-rl’s base_url does, is told apart from a wrong one', async () => {
  await connected(
    () => ({ status: 404, body: { detail: 'Not Found' } }),
    '/v1',
    async (admin) => {
      expect((await expectCode(admin, 'WC_ENGINE_PROTOCOL')).remedy).toContain('Leave out /v1');
    },
  );
});

it('a server that wants a key says so at once', async () => {
  await connected(
    () => ({ status: 401, body: { error: 'Unauthorized' } }),
    '',
    async (admin) => {
      await expectCode(admin, 'WC_ENGINE_UNAUTHORIZED');
    },
  );
});

describe('a server without /pause', () => {
  it('is refused, because a failed update would leave it serving a mixture', async () => {
    await connected(lists(ROUTES['0.4']), '', async (admin) => {
      expect((await expectCode(admin, 'WC_ENGINE_VERSION')).remedy).toContain('pause=none');
    });
  });

  it('is taken with pause=none, and the note says what that means', async () => {
    await connected(lists(ROUTES['0.4']), ',pause=none', async (admin) => {
      expect((await admin).notes).toContainEqual(expect.stringContaining("can't be paused"));
    });
  });
});

describe('its prefix cache', () => {
  it.each<readonly [Release, boolean]>([
    ['0.3', true],
    ['0.4', false],
    ['0.5', false],
    ['0.8', true],
  ])('of %s outlives an update: %s', async (release, outlives) => {
    await connected(lists(ROUTES[release]), ',pause=none', async (admin) => {
      expect((await admin).notes.some((note) => note.includes('cache_salt'))).toBe(outlives);
    });
  });
});

describe('how a server receives', () => {
  it.each([
    ['', undefined, 'prime-rl', false],
    ['', 'nccl', 'prime-rl', false],
    ['', 'filesystem', null, true],
    [',broadcast=nccl', 'filesystem', 'prime-rl', false],
    [',broadcast=filesystem', 'nccl', null, true],
  ] as const)(
    'is what %j behind its address says, else what the push uses (%s)',
    async (words, transport, wire, diskLoad) => {
      await connected(
        lists(ROUTES['0.8']),
        words,
        async (admin) => expect((await admin).capabilities).toMatchObject({ wire, diskLoad }),
        { transport },
      );
    },
  );

  it.each([',broadcast=nixl', ',pause=keep'])('%s is refused before anything is sent', async (words) => {
    await connected(lists(ROUTES['0.8']), words, async (admin, requests) => {
      await expectCode(admin, 'WC_CONFIG_INVALID');
      expect(requests).toHaveLength(0);
    });
  });
});
