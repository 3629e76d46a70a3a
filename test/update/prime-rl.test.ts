/**
 * What weightcast does about what prime-rl's servers do (contracts/prime-rl.md 1.5, 1.6 and 10). They can't be asked what they hold or whether they are paused, so the
 * engines' own record is the judge.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type ReferenceEngine, startReferencePrimeRl } from '../../src/testing/index.js';
import { meetingOf } from '../../src/transports/nccl/meeting.js';
import { leave } from './left-behind.js';
import { pausedOf, postsOf, withPrimeRl } from './prime-rl-support.js';
import { scriptedProxy } from './proxy.js';
import { answer, digestsOf, failedReport, post } from './support.js';

const PUSH = ['/init_broadcaster', '/pause', '/update_weights', '/resume'];

describe('an update', () => {
  it('reaches servers of different sizes, byte for byte, with the ranks that were said', async () => {
    await withPrimeRl([{ workers: 1 }, { workers: 2 }, { workers: 1 }], async ({ connect, engines, b }) => {
      const session = await connect();
      const report = await session.update(b);
      expect(report).toMatchObject({ outcome: 'updated', transport: 'nccl', nccl: { worldSize: 5 } });
      expect(await postsOf(engines)).toEqual([PUSH, PUSH, PUSH]);
      await using fresh = await startReferencePrimeRl({ model: b, workersInEngine: true });
      const [one, , other] = await Promise.all(engines.map(digestsOf));
      const whole = await digestsOf(fresh);
      expect([one, other]).toEqual([whole, whole]);
      expect(report.engines.map(({ proof }) => proof?.method)).toEqual([
        'fingerprint',
        'fingerprint',
        'fingerprint',
      ]);
    });
  });

  it('keeps its group for the next version', async () => {
    await withPrimeRl([{ workers: 2 }], async ({ connect, engines, a, b }) => {
      const session = await connect();
      await session.update(b);
      expect(await session.update(a)).toMatchObject({ outcome: 'updated', nccl: { reused: true } });
      expect(await postsOf(engines)).toEqual([[...PUSH, ...PUSH.slice(1)]]);
    });
  });

  it.each([
    ['0.5.0', ''],
    ['0.4.0', ',pause=none'],
    ['0.3.0', ',pause=none'],
  ] as const)('reaches servers of %s', async (release, words) => {
    await withPrimeRl(
      [
        { release, words, workers: 2 },
        { release, words, workers: 2 },
      ],
      async ({ connect, engines, b }) => {
        expect(await (await connect()).update(b)).toMatchObject({ outcome: 'updated' });
        const [one, other] = await Promise.all(engines.map(digestsOf));
        expect(one).toEqual(other);
      },
    );
  });

  it('of an uneven fleet of 0.5 is refused before anybody is asked to join', async () => {
    await withPrimeRl(
      [{ release: '0.5.0' }, { release: '0.5.0', workers: 2 }],
      async ({ connect, engines, b }) => {
        const report = await failedReport((await connect()).update(b));
        expect(report.error).toMatchObject({ code: 'WC_CONFIG_INVALID' });
        expect(await postsOf(engines)).toEqual([[], []]);
      },
    );
  });

  it('says that stale prefixes stay cached, and a salted request does not meet them', async () => {
    await withPrimeRl([{}], async ({ connect, engines, b }) => {
      const url = engines[0]?.url ?? '';
      const before = await answer(url);
      const report = await (await connect()).update(b);
      expect(report.notes.join()).toContain('cache_salt');
      expect(await answer(url), 'without a salt the old weights answer').toEqual(before);
      const salted = await post(url, '/v1/completions', {
        model: 'reference',
        prompt: [5, 6, 7],
        max_tokens: 1,
        temperature: 0,
        prompt_logprobs: 0,
        cache_salt: 'v2',
      });
      expect((salted as { choices: [{ prompt_logprobs: unknown }] }).choices[0].prompt_logprobs).not.toEqual(
        before,
      );
    });
  });
});

describe('a server that can’t join', () => {
  it('because it lacks the route is named at once, and nobody waits for it in the rendezvous', async () => {
    await withPrimeRl([{ missing: ['/init_broadcaster'] }, {}], async ({ connect, engines, b }) => {
      const report = await failedReport((await connect()).update(b));
      expect(report.error).toMatchObject({ code: 'WC_ENGINE_NOT_CONFIGURED', engine: engines[0]?.url });
      expect(await postsOf(engines)).toEqual([[], []]);
    });
  });

  it('because the route answers 404 only now ends the rendezvous, long before its deadline', async () => {
    await withPrimeRl(
      [{ routeFaults: { '/init_broadcaster': { status: 404 } } }, {}],
      async ({ connect, engines, b }) => {
        const report = await failedReport((await connect({ timeouts: { rendezvous: 60_000 } })).update(b));
        expect(report.error).toMatchObject({ code: 'WC_ENGINE_NOT_CONFIGURED' });
        expect((await postsOf(engines)).flat()).not.toContain('/pause');
      },
    );
  });

  it('because it was started for files is told what to say', async () => {
    await withPrimeRl([{ broadcast: 'filesystem' }], async ({ connect, engines, b }) => {
      const report = await failedReport((await connect()).update(b));
      expect(report.error?.remedy).toContain('broadcast=filesystem');
      expect(await postsOf(engines)).toEqual([['/init_broadcaster']]);
    });
  });

  it('because more workers come than were said ends at the deadline, with nobody paused', async () => {
    // The second takes a rank that the group does not have.
    await withPrimeRl([{ workers: 2 }], async ({ engines, b, connect }) => {
      const session = await connect({
        engines: [`prime-rl=${engines[0]?.url},workers=1`],
        timeouts: { rendezvous: 3_000 },
      });
      const report = await failedReport(session.update(b));
      expect(report.outcome).toBe('failed');
      expect((await postsOf(engines)).flat()).not.toContain('/pause');
    });
  });
});

describe('a pause that fails', () => {
  it('leaves nobody paused: the others are resumed, which prime-rl’s own client does not do', async () => {
    await withPrimeRl(
      [{ routeFaults: { '/pause': { status: 500 } } }, {}],
      async ({ connect, engines, b }) => {
        const session = await connect({ timeouts: { pause: 2_500 } });
        const report = await failedReport(session.update(b));
        expect(report.outcome).toBe('failed');
        expect(await pausedOf(engines)).toEqual([false, false]);
        const [failing] = await postsOf(engines);
        expect(failing?.filter((path) => path === '/pause').length).toBeGreaterThan(1);
        expect((await postsOf(engines)).flat()).not.toContain('/update_weights');
      },
    );
  });
});

describe('a receive that fails', () => {
  it('is asked for once, and no engine that may hold half of it is resumed', async () => {
    await withPrimeRl(
      [{ faults: { receive: { afterBroadcasts: 5, action: 'raise' } } }, {}],
      async ({ connect, engines, b }) => {
        const report = await failedReport((await connect({ timeouts: { update: 15_000 } })).update(b));
        expect(report.outcome).toBe('quarantined');
        const posts = await postsOf(engines);
        expect(posts.map((list) => list.filter((path) => path === '/update_weights').length)).toEqual([1, 1]);
        const [state] = await Promise.all(engines.map((engine) => engine.state()));
        expect(state).toMatchObject({ broken: true });
        expect(state?.paused).not.toBeNull();
      },
      60,
    );
  });

  it('and hangs ends at our deadline, asked for once: a second request would queue behind it', async () => {
    await withPrimeRl(
      [{ faults: { receive: { afterBroadcasts: 5, action: 'stall' } } }],
      async ({ connect, engines, b }) => {
        await using proxy = await scriptedProxy(engines[0]?.url ?? '');
        const session = await connect({ engines: [`prime-rl=${proxy.url}`], timeouts: { update: 3_000 } });
        const report = await failedReport(session.update(b));
        expect(report.engines[0]).toMatchObject({ state: 'quarantined' });
        expect(proxy.posts.filter((path) => path === '/update_weights')).toHaveLength(1);
      },
      60,
    );
  });

  it('after the last byte: the 200 of another engine may have come before its last byte, and does not count', async () => {
    await withPrimeRl(
      [{ faults: { receive: { afterBroadcasts: 1_000, action: 'raise' } } }, {}],
      async ({ connect, engines, b }) => {
        const report = await failedReport((await connect({ timeouts: { update: 15_000 } })).update(b));
        expect(report.engines.map(({ state }) => state)).toEqual(['quarantined', 'quarantined']);
        expect(await pausedOf(engines)).toEqual([true, true]);
      },
    );
  });

  it('because an engine died quarantines what it left, within the deadline', async () => {
    await withPrimeRl(
      [{ workersInEngine: false, faults: { receive: { afterBroadcasts: 5, action: 'exit' } } }, {}],
      async ({ connect, b }) => {
        const report = await failedReport((await connect({ timeouts: { update: 10_000 } })).update(b));
        expect(report.outcome).toBe('quarantined');
        expect(report.engines.every(({ state }) => state !== 'serving-new')).toBe(true);
      },
      60,
    );
  });
});

describe('a resume', () => {
  it('that fails once is asked for again', async () => {
    await withPrimeRl(
      [{ routeFaults: { '/resume': { status: 500, times: 1 } } }],
      async ({ connect, engines, b }) => {
        expect(await (await connect()).update(b)).toMatchObject({ outcome: 'updated' });
        expect(await pausedOf(engines)).toEqual([false]);
      },
    );
  });

  it('that is not answered in time may have come late: the engine is not called serving, nor paused', async () => {
    await withPrimeRl(
      [{ routeFaults: { '/resume': { delayMs: 2_500, times: 1 } } }],
      async ({ connect, engines, b }) => {
        const report = await failedReport((await connect({ timeouts: { resume: 800 } })).update(b));
        expect(report.engines[0]).toMatchObject({ state: 'quarantined' });
        expect(report.engines[0]?.history.at(-1)?.reason).toContain('may be serving');
        await expect.poll(() => pausedOf(engines), { timeout: 20_000 }).toEqual([false]);
      },
    );
  });
});

it.each([
  // Seed 3090 of the simulator.
  ['died', 'serving-old'],
  ['ended by itself', 'unknown'],
] as const)(
  'a server whose workers wait for a push that %s is not said to serve, though it is healthy and lists its models',
  async (_, left) => {
    await withPrimeRl(
      [{ faults: { join: { action: 'stall' } } }, {}],
      async ({ engines, directory, connect, b }) => {
        const [stuck, free] = engines as [ReferenceEngine, ReferenceEngine];
        const state = join(directory, 'state');
        await mkdir(state, { mode: 0o700 });
        await leave(state, {
          states: { [stuck.url]: left, [free.url]: 'serving-old' },
          ...{ push: { weights: b }, joining: true },
        });
        const seat = { host: '127.0.0.1', port: 1, rank_offset: 0, inference_world_size: 2, timeout: 600 };
        const joining = fetch(`${stuck.url}/init_broadcaster`, {
          method: 'POST',
          body: JSON.stringify(seat),
        }).catch(() => null);
        await expect.poll(async () => (await stuck.state()).pending, { timeout: 20_000 }).toBe(1);
        const session = await connect({ timeouts: { probe: 5_000 } });
        const report = await failedReport(session.update(b));
        expect(report).toMatchObject({
          outcome: 'failed',
          error: {
            ...{ code: 'WC_ENGINE_TIMEOUT', engine: stuck.url, phase: 'preflight' },
            message: expect.stringContaining('wait for a rank that is gone'),
          },
        });
        const stateOf = (url: string) => report.engines.find((engine) => engine.url === url)?.state;
        expect([stateOf(stuck.url), stateOf(free.url)]).toEqual(['unknown', 'serving-old']);
        expect(await postsOf([free])).toEqual([['/resume']]);

        await stuck.reset();
        await joining;
        expect(await session.update(b)).toMatchObject({ outcome: 'updated' });
      },
    );
  },
);

describe('by files', () => {
  const FILES = { transport: 'filesystem' } as const;

  it('every server loads the directory itself', async () => {
    await withPrimeRl(
      [{ broadcast: 'filesystem', workers: 2 }, { broadcast: 'filesystem' }],
      async ({ connect, engines, b }) => {
        expect(await (await connect(FILES)).update(b)).toMatchObject({
          outcome: 'updated',
          transport: 'filesystem',
        });
        expect(await postsOf(engines)).toEqual(
          Array.from({ length: 2 }, () => ['/pause', '/update_weights', '/resume']),
        );
        const [load] = engines[0]?.record.filter(({ path }) => path === '/update_weights') ?? [];
        expect(load?.requestBody).toBe(JSON.stringify({ weight_dir: b }));
      },
    );
  });

  it('a load that fails while NFS does not show the files yet is asked for again', async () => {
    const routeFaults = { '/update_weights': { status: 500, times: 2 } };
    await withPrimeRl([{ broadcast: 'filesystem', routeFaults }], async ({ connect, b }) => {
      expect(await (await connect(FILES)).update(b)).toMatchObject({ outcome: 'updated' });
    });
  });

  it('never heals a server that was started for NCCL: its workers would wait for a broadcast', async () => {
    await withPrimeRl(
      [{ faults: { receive: { afterBroadcasts: 5, action: 'raise' } } }],
      async ({ connect, engines, b }) => {
        const session = await connect({ fallback: 'filesystem', timeouts: { update: 10_000 } });
        const report = await failedReport(session.update(b));
        expect(report.outcome).toBe('quarantined');
        const [posts] = await postsOf(engines);
        expect(posts?.filter((path) => path === '/update_weights')).toHaveLength(1);
      },
      60,
    );
  });
});

describe('an adapter', () => {
  it('whose files a server sees late is loaded without a pause', async () => {
    const routeFaults = { '/load_lora_adapter': { status: 404, times: 2 } };
    await withPrimeRl([{ routeFaults }, {}], async ({ connect, engines, directory }) => {
      const path = join(directory, 'step_7');
      await mkdir(path);
      await writeFile(join(path, 'adapter_config.json'), '{"peft_type":"LORA"}');
      await writeFile(
        join(path, 'adapter_model.safetensors'),
        Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{}')]),
      );
      const { servedAs } = await (await connect()).loadAdapter(path, { name: 'policy', version: '7' });
      for (const { url } of engines) {
        const { data } = (await (await fetch(`${url}/v1/models`)).json()) as {
          data: { id: string; root: string }[];
        };
        expect(data).toContainEqual(expect.objectContaining({ id: servedAs, root: path }));
      }
      const posts = await postsOf(engines);
      expect(new Set(posts.flat())).toEqual(new Set(['/load_lora_adapter']));
      expect(posts[0]).toHaveLength(3);
    });
  });
});

it('a server whose /health is missing is healthy', async () => {
  await withPrimeRl([{ missing: ['/health'] }], async ({ connect, b }) => {
    expect(await (await connect()).update(b)).toMatchObject({ outcome: 'updated' });
  });
});

it('another way to pause than by freezing is not there, and the report says so', async () => {
  await withPrimeRl([{}], async ({ connect, b }) => {
    const report = await (await connect({ pauseMode: 'wait' })).update(b);
    expect(report).toMatchObject({ outcome: 'updated' });
    expect(report.notes.join()).toContain("can't pause by wait, so it pauses by keep");
  });
});

it('all servers are paused, asked and resumed at the same time: one that waits for its data-parallel siblings would wait for ever', async () => {
  await withPrimeRl([{}, {}], async ({ connect, engines, b }) => {
    await using first = await scriptedProxy(engines[0]?.url ?? '');
    await using second = await scriptedProxy(engines[1]?.url ?? '');
    for (const path of ['/init_broadcaster', '/pause', '/update_weights', '/resume']) {
      const { arrive } = meetingOf(2);
      // None is answered before the other was asked, as by the ranks of an MoE model.
      for (const proxy of [first, second]) proxy.on(path, { kind: 'watch', seen: arrive }, 1);
    }
    const session = await connect({
      engines: [`prime-rl=${first.url}`, `prime-rl=${second.url}`],
      timeouts: { pause: 30_000, update: 30_000, resume: 30_000, rendezvous: 30_000 },
    });
    expect(await session.update(b)).toMatchObject({ outcome: 'updated' });
    expect(await postsOf(engines)).toEqual([PUSH, PUSH]);
  });
});

it('requests that run are frozen by the pause, and go on', async () => {
  await withPrimeRl([{ tokenMs: 5 }], async ({ connect, engines, b }) => {
    const url = engines[0]?.url ?? '';
    const running = fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'reference', prompt: [5, 6], max_tokens: 300 }),
    });
    await sleep(20);
    expect(await (await connect()).update(b)).toMatchObject({ outcome: 'updated' });
    const { choices } = (await (await running).json()) as { choices: { finish_reason: string }[] };
    expect(choices[0]?.finish_reason).toBe('length');
  });
});
