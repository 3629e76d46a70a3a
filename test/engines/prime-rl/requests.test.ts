/** What leaves us, byte for byte, held against the requests that contracts/prime-rl.md gives (1, 1.2, 1.3, 12). */
import { describe, expect, it } from 'vitest';
import type { EngineAdmin, Exchange } from '../../../src/engines/admin.js';
import type { EngineTarget } from '../../../src/engines/http.js';
import { withClient } from '../client.js';
import { target } from '../server.js';
import { type RawRequest, withRawServer } from './raw-server.js';
import { adminOf, type Release, seatOf } from './support.js';

const UPDATE = { tensors: [], packing: null, weightVersion: 'v7', directory: '/runs/broadcasts/step_7' };

/** Sends one exchange and gives what came over the wire. */
async function sent(
  exchange: Exchange<unknown>,
  answer: unknown,
  changes: Partial<EngineTarget> = {},
): Promise<RawRequest> {
  let seen: RawRequest | undefined;
  await withRawServer(
    () => ({ status: 200, body: answer }),
    (url, requests) =>
      withClient({}, async (http) => {
        await http.exchange(target(url, changes), exchange);
        expect(requests).toHaveLength(1);
        seen = requests[0];
      }),
  );
  return seen as RawRequest;
}

const pause = (admin: EngineAdmin) => admin.pause({ mode: 'keep', clearCache: true });

describe('request line, body and what the body is', () => {
  const admin = adminOf();
  const disk = adminOf('0.8', 'filesystem').reloadFromDisk('/runs/broadcasts/step_7', {
    weightVersion: null,
  });
  it.each<readonly [string, Exchange<unknown>, unknown, string, string]>([
    ['pause', pause(admin), { status: 'paused' }, 'POST /pause?mode=keep&clear_cache=false HTTP/1.1', ''],
    ['resume', admin.resume(), { status: 'resumed' }, 'POST /resume HTTP/1.1', ''],
    [
      'update by NCCL',
      admin.updateWeights(UPDATE),
      { status: 'ok' },
      'POST /update_weights HTTP/1.1',
      '{"weight_dir":"/runs/broadcasts/step_7"}',
    ],
    [
      'update by files',
      disk as Exchange<unknown>,
      { status: 'ok' },
      'POST /update_weights HTTP/1.1',
      '{"weight_dir":"/runs/broadcasts/step_7"}',
    ],
    [
      'an adapter',
      admin.loadLoraAdapter({ name: 'r8-a16', path: '/runs/broadcasts/step_7' }),
      { status: 'ok' },
      'POST /load_lora_adapter HTTP/1.1',
      '{"lora_name":"r8-a16","lora_path":"/runs/broadcasts/step_7"}',
    ],
    [
      'an adapter’s end',
      admin.unloadLoraAdapter({ name: 'r8-a16' }),
      "Success: LoRA adapter 'r8-a16' removed successfully.",
      'POST /v1/unload_lora_adapter HTTP/1.1',
      '{"lora_name":"r8-a16"}',
    ],
    [
      'the invitation to a group',
      admin.initBroadcaster(seatOf(1, [2, 2])),
      { status: 'ok' },
      'POST /init_broadcaster HTTP/1.1',
      '{"host":"10.0.0.9","port":29501,"rank_offset":2,"inference_world_size":4,"timeout":1200,"quantize_in_weight_transfer":false,"session_id":"default","gpus_per_server":2,"server_rank":1,"num_inference_server":2}',
    ],
    ['health', admin.health(), '', 'GET /health HTTP/1.1', ''],
    [
      'the models',
      admin.listModels(),
      { object: 'list', data: [{ id: 'm' }] },
      'GET /v1/models HTTP/1.1',
      '',
    ],
  ])('%s', async (_, exchange, answer, line, body) => {
    const seen = await sent(exchange, answer);
    expect(seen).toMatchObject({ line, body });
    if (line.startsWith('POST')) expect(seen.headers['content-length']).toBe(String(Buffer.byteLength(body)));
    if (body !== '') expect(seen.headers['content-type']).toBe('application/json');
  });

  it('the key as a bearer token on every admin call, and the configured headers', async () => {
    const changes = { apiKey: 'secret', headers: { 'X-Team': 'rl' } };
    for (const exchange of [admin.resume(), adminOf().updateWeights(UPDATE)]) {
      const answer = { status: exchange.operation === 'resume' ? 'resumed' : 'ok' };
      const { headers } = await sent(exchange, answer, changes);
      expect(headers).toMatchObject({ authorization: 'Bearer secret', 'x-team': 'rl' });
    }
  });

  it('a proxy’s prefix stays in front of every route', async () => {
    let line = '';
    await withRawServer(
      (request) => {
        line = request.line;
        return { status: 200, body: { status: 'resumed' } };
      },
      (url) => withClient({}, (http) => http.exchange(target(`${url}/engines/3`), admin.resume())),
    );
    expect(line).toBe('POST /engines/3/resume HTTP/1.1');
  });

  it('models are asked of the inference server, admin routes are not', async () => {
    await withRawServer(
      () => ({ status: 200, body: { data: [] } }),
      (router, routed) =>
        withRawServer(
          () => ({ status: 200, body: { status: 'resumed' } }),
          (engine, direct) =>
            withClient({}, async (http) => {
              const both = target(engine, { inferenceUrl: router });
              await http.exchange(both, admin.listModels());
              await http.exchange(both, admin.resume());
              expect(routed.map(({ line }) => line)).toEqual(['GET /v1/models HTTP/1.1']);
              expect(direct.map(({ line }) => line)).toEqual(['POST /resume HTTP/1.1']);
            }),
        ),
    );
  });
});

describe('what a generation has', () => {
  it.each<readonly [Release, string]>([
    ['0.3', '/v1/load_lora_adapter'],
    ['0.4', '/load_lora_adapter'],
    ['0.5', '/load_lora_adapter'],
    ['0.8', '/load_lora_adapter'],
  ])('%s loads adapters at %s', (release, path) => {
    expect(adminOf(release).loadLoraAdapter({ name: 'a', path: '/a' }).path).toBe(path);
  });

  it.each<Release>(['0.3', '0.4'])(
    '%s has no /pause: nothing but a look at its health is sent',
    (release) => {
      const admin = adminOf(release);
      expect([pause(admin), admin.resume()].map(({ method, path }) => `${method} ${path}`)).toEqual([
        'GET /health',
        'GET /health',
      ]);
    },
  );

  it('no generation has a version, a checksum, a teardown, or a step before or after the update', () => {
    const admin = adminOf();
    const lacking = [
      admin.worldSize(),
      admin.isPaused(),
      admin.weightVersion(),
      admin.setWeightVersion('v1'),
      admin.checksums(),
      admin.startUpdate(),
      admin.finishUpdate({ weightVersion: 'v1' }),
      admin.shutdownBroadcaster(),
      admin.resetPrefixCache({ resetRunningRequests: true }),
    ];
    expect(lacking.every((operation) => operation === null)).toBe(true);
  });

  it('a server receives one way for life', () => {
    expect(adminOf('0.8', 'nccl').capabilities).toMatchObject({ wire: 'prime-rl', diskLoad: false });
    expect(adminOf('0.8', 'nccl').reloadFromDisk('/w', { weightVersion: null })).toBeNull();
    expect(adminOf('0.8', 'filesystem').capabilities).toMatchObject({ wire: null, diskLoad: true });
  });

  it('a prompt is scored past the prefix cache, which outlives an update', () => {
    const admin = adminOf();
    const salts = [1, 2].map(() => {
      const score = admin.scorePrompt({ model: 'm', tokens: [1, 2] });
      return (score?.body as { cache_salt: string } | undefined)?.cache_salt;
    });
    expect(new Set(salts).size).toBe(2);
  });
});

describe('ranks', () => {
  const bodies = (release: Release, fleet: readonly number[]) =>
    fleet.map((_, index) => adminOf(release).initBroadcaster(seatOf(index, fleet)).body);

  it('of an uneven fleet follow from the sizes that were said', () => {
    expect(bodies('0.8', [1, 4, 2])).toMatchObject([
      { rank_offset: 0, inference_world_size: 7 },
      { rank_offset: 1, inference_world_size: 7 },
      { rank_offset: 5, inference_world_size: 7 },
    ]);
  });

  it.each<Release>(['0.3', '0.4', '0.5'])('of an even fleet are what %s computes them from', (release) => {
    expect(bodies(release, [2, 2, 2])).toMatchObject([
      { rank_offset: 0, gpus_per_server: 2, server_rank: 0, num_inference_server: 3 },
      { rank_offset: 2, gpus_per_server: 2, server_rank: 1, num_inference_server: 3 },
      { rank_offset: 4, gpus_per_server: 2, server_rank: 2, num_inference_server: 3 },
    ]);
  });

  it.each<readonly [Release, string]>([
    ['0.3', 'server_rank'],
    ['0.4', 'server_rank'],
    ['0.5', 'gpus_per_server'],
  ])('of an uneven fleet are refused by name where %s knows only %s', (release, field) => {
    for (const fleet of [
      [2, 4],
      [1, 1, 2],
    ]) {
      expect(() => bodies(release, fleet)).toThrow(
        expect.objectContaining({
          code: 'WC_CONFIG_INVALID',
          message: expect.stringContaining(field),
          engine: 'http://e',
        }),
      );
    }
  });

  it('a timeout is whole seconds, never none', () => {
    const seat = { ...seatOf(0, [1]), timeoutMs: 1 };
    expect(adminOf().initBroadcaster(seat).body).toMatchObject({ timeout: 1 });
  });
});
