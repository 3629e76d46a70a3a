/** The reference prime-rl server, held against contracts/prime-rl.md: what it answers, and what it does when things go wrong. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type ReferenceEngine,
  type ReferencePrimeRlOptions,
  startReferencePrimeRl,
  writeTinyModel,
} from '../../src/testing/index.js';
import { WorkerError } from '../../src/testing/server/transfer-info.js';
import { unpickleMetadata } from '../../src/testing/worker/unpickle.js';
import { pickleMetadata } from '../../src/transports/nccl/wire/prime-rl-metadata.js';
import { loads } from '../transports/nccl/wire/prime-rl-receiver.js';
import { tensorOf } from '../weights/files.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'weightcast-reference-prime-rl-'));
  await writeTinyModel(directory, { seed: 1 });
});
afterAll(() => rm(directory, { recursive: true }));

async function withEngine(
  options: Omit<ReferencePrimeRlOptions, 'model'>,
  use: (engine: ReferenceEngine, call: typeof fetch) => Promise<void>,
): Promise<void> {
  await using engine = await startReferencePrimeRl({ model: directory, workersInEngine: true, ...options });
  await use(engine, (path, init) => fetch(`${engine.url}${String(path)}`, init));
}

const post = (body?: unknown): RequestInit => ({
  method: 'POST',
  ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
});
const said = async (response: Promise<Response>) => {
  const { status } = await response;
  const text = await (await response).text();
  return [status, text === '' ? '' : (JSON.parse(text) as unknown)] as const;
};

const SEAT = { host: '127.0.0.1', port: 1, rank_offset: 0, inference_world_size: 1, timeout: 1 };

describe('its routes', () => {
  it('answer as the contract’s table says', async () => {
    await withEngine({}, async (engine, call) => {
      expect(await said(call('/pause', post()))).toEqual([200, { status: 'paused' }]);
      expect((await engine.state()).paused).toBe('keep');
      expect(await said(call('/resume', post()))).toEqual([200, { status: 'resumed' }]);
      expect(await said(call('/resume', post())), 'resume when not paused is ignored').toEqual([
        200,
        { status: 'resumed' },
      ]);
      expect(await said(call('/health'))).toEqual([200, '']);
      expect(await said(call('/liveness'))).toEqual([200, { status: 'ok' }]);
      const [status, models] = await said(call('/v1/models'));
      expect(status).toBe(200);
      expect(models).toMatchObject({
        object: 'list',
        data: [{ id: 'reference', root: directory, parent: null }],
      });
    });
  });

  it('fail with 500 and vLLM’s catch-all where nothing is caught', async () => {
    await withEngine({}, async (_, call) => {
      for (const [path, body, words] of [
        ['/update_weights', 'no json', 'Expecting value'],
        ['/update_weights', 'null', "has no attribute 'get'"],
        ['/update_weights', { weight_dir: '/w' }, 'Call to collective_rpc method failed'],
        ['/init_broadcaster', { ...SEAT, timeout: null }, 'timeout'],
      ] as const) {
        const [status, answer] = await said(call(path, post(body)));
        expect(status).toBe(500);
        expect(answer).toMatchObject({ error: { code: 500, message: expect.stringContaining(words) } });
      }
    });
  });

  it('of a server for files load a directory, and refuse to join', async () => {
    await withEngine({ broadcast: 'filesystem' }, async (_, call) => {
      expect(await said(call('/update_weights', post({ weight_dir: directory })))).toEqual([
        200,
        { status: 'ok' },
      ]);
      const [status, answer] = await said(call('/init_broadcaster', post(SEAT)));
      expect(status).toBe(500);
      expect(JSON.stringify(answer)).toContain('takes 1 positional argument');
      expect((await said(call('/update_weights', post({ weight_dir: '/nowhere' }))))[0]).toBe(500);
    });
  });

  it('load an adapter in place, and say 404 while its files are not there', async () => {
    await withEngine({}, async (_, call) => {
      const load = post({ lora_name: 'a', lora_path: '/nowhere' });
      expect(
        await said(call('/load_lora_adapter', { ...load, headers: { 'content-type': 'application/json' } })),
      ).toMatchObject([404, { error: { message: expect.stringContaining('No adapter found') } }]);
    });
  });

  it('are only those of the release', async () => {
    await withEngine({ release: '0.4.0' }, async (_, call) => {
      expect((await said(call('/pause', post())))[0]).toBe(404);
      expect((await said(call('/liveness')))[0]).toBe(404);
    });
  });

  it('are vLLM’s own in development mode', async () => {
    await withEngine({ devMode: true }, async (_, call) => {
      expect((await said(call('/is_paused')))[0]).toBe(200);
      expect((await said(call('/update_weights', post({ weight_dir: '/w' }))))[0]).toBe(400);
    });
  });
});

it('calls queue behind a join that waits, liveness gives up, and health stays green', async () => {
  await withEngine(
    { livenessTimeoutMs: 100, faults: { join: { action: 'stall' } } },
    async (engine, call) => {
      const joining = call('/init_broadcaster', post({ ...SEAT, timeout: 60 })).catch(() => null);
      await expect.poll(async () => (await engine.state()).pending, { timeout: 10_000 }).toBe(1);
      expect(await said(call('/liveness'))).toEqual([503, { status: 'engine_unresponsive' }]);
      expect((await said(call('/health')))[0]).toBe(200);
      let paused = false;
      const pausing = call('/pause', post()).then(() => {
        paused = true;
      });
      await expect.poll(async () => (await engine.state()).pending, { timeout: 10_000 }).toBeGreaterThan(1);
      expect(paused).toBe(false);
      await engine.reset();
      await Promise.all([joining, pausing]);
      expect(paused).toBe(true);
    },
  );
});

it('a call that its client has given up is applied all the same', async () => {
  await withEngine({ routeFaults: { '/pause': { delayMs: 300 } } }, async (engine, call) => {
    const { hostname, port } = new URL(engine.url);
    const socket = connect(Number(port), hostname);
    await once(socket, 'connect');
    const request = 'POST /pause HTTP/1.1\r\nhost: engine\r\ncontent-length: 0\r\n\r\n';
    await new Promise((resolve) => socket.write(request, resolve));
    // One that came later is answered: this one has been read. A deadline would strike before that where the machine is busy.
    expect((await said(call('/health')))[0]).toBe(200);
    socket.destroy();
    await expect.poll(async () => (await engine.state()).paused, { timeout: 10_000 }).toBe('keep');
  });
});

describe('its unpickler', () => {
  it('reads what the sender writes', () => {
    const tensors = [
      tensorOf('модель.🙂', 'BF16', [3, 70_000]),
      { ...tensorOf('big', 'BF16', [1]), shape: [2 ** 31, 2] },
    ];
    const pickle = pickleMetadata([{ torchName: 'bfloat16', tensors }]);
    expect(unpickleMetadata(pickle)).toEqual(
      new Map([
        [
          'bfloat16',
          [
            { name: 'модель.🙂', shape: [3, 70_000], numel: 210_000 },
            { name: 'big', shape: [2 ** 31, 2], numel: 2 ** 32 },
          ],
        ],
      ]),
    );
    expect(loads(Buffer.from(pickle))).toBeInstanceOf(Map);
  });

  it.each([
    ['another module', 'c"posix\nsystem\n".'],
    ['an opcode that runs code', '\x80\x02}R.'],
    ['nothing', ''],
    ['a cut one', '\x80\x02}(ctorch\nbfl'],
    ['a string without end', '\x80\x02X\xff\xff\xff\x7fa'],
    ['no dict', '\x80\x02].'],
    ['a dict of something else', '\x80\x02}(K\x01K\x02u.'],
  ])('refuses %s', (_, text) => {
    expect(() => unpickleMetadata(Buffer.from(text, 'latin1'))).toThrow(WorkerError);
  });
});
