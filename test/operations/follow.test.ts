/** weightcast as the orchestrator of a trainer that a script plays as the contract has it. */
import { existsSync, mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import type { EngineAdmin, Reply } from '../../src/engines/admin.js';
import type { EngineTarget } from '../../src/engines/http.js';
import { type FollowOptions, followTrainer } from '../../src/operations/index.js';
import { deferred } from '../../src/testing/deferred.js';
import { errorOf, expectCode } from '../engines/client.js';
import { withServer } from '../engines/server.js';
import { startPeer } from '../transports/filesystem/prime-rl/peer.js';
import { type Answers, fakeAdmin, withFakes } from './fake-engine.js';

const admin = fakeAdmin;
/** As one that was started to load files. */
function filesAdmin(target: EngineTarget): EngineAdmin {
  const own = fakeAdmin(target);
  return {
    ...own,
    reloadFromDisk: (directory, { weightVersion }) => {
      const load = own.updateWeights({ tensors: [], packing: null, weightVersion, directory });
      const read = (reply: Reply) => {
        load.read(reply);
        return null;
      };
      return { ...load, read };
    },
  };
}

const group = { host: '127.0.0.1', port: 29_501, inferenceWorldSize: 2 };
/** For those who leave engines in need of help, whose ports are other engines' later. */
const NO_WORD = { stateDir: null };

async function withBroadcasts(use: (broadcasts: string) => Promise<void>): Promise<void> {
  const run = await mkdtemp(join(tmpdir(), 'weightcast-follow-'));
  try {
    await use(join(run, 'broadcasts'));
  } finally {
    await rm(run, { recursive: true });
  }
}

function stable(broadcasts: string, version: number, files: readonly string[] = ['STABLE']): void {
  const folder = join(broadcasts, `step_${version}`);
  mkdirSync(folder, { recursive: true });
  for (const file of files) writeFileSync(join(folder, file), '');
}

/** The trainer announces as soon as the group stands. */
const announces = (broadcasts: string): Answers => ({
  '/init_broadcaster': () => {
    stable(broadcasts, 1);
    return [200, { status: 'ok' }];
  },
});

it.each(['stable', 'dotfiles'] as const)(
  'joins the group, pauses, lets a trainer of the %s markers send, asks to receive, resumes, and goes on',
  async (generation) => {
    await withBroadcasts(async (broadcasts) => {
      // Of a run that was killed: nobody would send it.
      stable(broadcasts, 99);
      utimesSync(join(broadcasts, 'step_99', 'STABLE'), 1_000, 1_000);
      await withFakes([{}, {}], async (engines) => {
        const stop = new AbortController();
        const updated: number[] = [];
        let trainer: ReturnType<typeof startPeer> | null = null;
        await followTrainer(
          engines.map(({ url }) => url),
          {
            admin: (target) => {
              trainer ??= startPeer('trainer', generation, broadcasts, 1);
              return admin(target);
            },
            broadcasts,
            group,
            signal: stop.signal,
            pollMs: 5,
            onUpdated: async ({ version }) => {
              updated.push(version);
              expect(await trainer?.rest()).toEqual(['announced', 'sending']);
              if (version === 2) stop.abort();
              else trainer = startPeer('trainer', generation, broadcasts, 2);
            },
          },
        );
        expect(updated).toEqual([1, 2]);
        const round = ['/pause', '/update_weights', '/resume'];
        for (const { asked } of engines) expect(asked).toEqual(['/init_broadcaster', ...round, ...round]);
        expect(engines[0]?.bodies.get('/update_weights')).toEqual({ weight_dir: join(broadcasts, 'step_2') });
      });
    });
  },
);

it('resumes everybody untouched when the trainer is killed before it is answered, and looks again', async () => {
  await withBroadcasts(async (broadcasts) => {
    const gone: Answers = {
      ...announces(broadcasts),
      // The trainer's successor cleans up while the engines are being paused.
      '/pause': () => {
        rmSync(join(broadcasts, 'step_1'), { recursive: true });
        return [200, { status: 'paused' }];
      },
    };
    await withFakes([gone], async ([engine]) => {
      const stop = new AbortController();
      const lines: string[] = [];
      const following = followTrainer([engine?.url ?? ''], {
        admin,
        broadcasts,
        group,
        signal: stop.signal,
        pollMs: 5,
        onLog: (line) => {
          lines.push(line);
          stop.abort();
        },
      });
      await following;
      expect(lines).toEqual(['version 1 was withdrawn: looking again']);
      expect(engine?.asked).toEqual(['/init_broadcaster', '/pause', '/resume']);
    });
  });
});

it('does not take a withdrawal for harmless where an engine could not be resumed', async () => {
  await withBroadcasts(async (broadcasts) => {
    const stuck: Answers = {
      ...announces(broadcasts),
      '/pause': () => {
        rmSync(join(broadcasts, 'step_1'), { recursive: true });
        return [200, { status: 'paused' }];
      },
      '/resume': () => [500, {}],
    };
    await withFakes([stuck], async ([engine]) => {
      const following = followTrainer([engine?.url ?? ''], {
        ...{ admin, broadcasts, group, ...NO_WORD },
        signal: AbortSignal.timeout(60_000),
        pollMs: 5,
      });
      expect(await errorOf(following)).toMatchObject({ details: { unresumed: [engine?.url] } });
    });
  });
});

it('ends with the engine that did not finish, which stays paused', async () => {
  await withBroadcasts(async (broadcasts) => {
    const broken: Answers = { ...announces(broadcasts), '/update_weights': () => [500, {}] };
    await withFakes([broken], async ([engine]) => {
      const following = followTrainer([engine?.url ?? ''], {
        ...{ admin, broadcasts, group, ...NO_WORD },
        signal: AbortSignal.timeout(60_000),
        pollMs: 5,
      });
      expect(await errorOf(following)).toMatchObject({
        code: 'WC_UPDATE_QUARANTINED',
        details: { paused: [engine?.url] },
      });
      expect(engine?.asked.at(-1)).toBe('/update_weights');
    });
  });
});

it('loads an adapter that the trainer wrote, without a pause', async () => {
  await withBroadcasts(async (broadcasts) => {
    stable(broadcasts, 1, ['adapter_config.json', 'STABLE']);
    await withFakes([{}], async ([engine]) => {
      const stop = new AbortController();
      const onUpdated = () => stop.abort();
      await followTrainer([engine?.url ?? ''], {
        admin,
        broadcasts,
        signal: stop.signal,
        pollMs: 5,
        onUpdated,
      });
      expect(engine?.asked).toEqual(['/load_lora_adapter']);
      expect(engine?.bodies.get('/load_lora_adapter')).toMatchObject({ lora_name: 'policy' });
    });
  });
});

describe('when it is told to stop in the middle of an update', () => {
  const stopsAt = async (path: string, status: number, use: (following: Promise<void>) => Promise<void>) => {
    let seen: readonly string[] = [];
    await withBroadcasts(async (broadcasts) => {
      const stop = new AbortController();
      const stopping: Answers = {
        ...announces(broadcasts),
        [path]: () => {
          stop.abort();
          return [status, { status: path === '/pause' ? 'paused' : 'ok' }];
        },
      };
      await withFakes([stopping], async ([engine]) => {
        const { signal } = stop;
        const options = { admin, broadcasts, group, signal, pollMs: 5, ...NO_WORD };
        await use(followTrainer([engine?.url ?? ''], options));
        seen = engine?.asked ?? [];
      });
    });
    return seen;
  };

  it.each(['/pause', '/update_weights'])('during %s, it finishes it first', async (path) => {
    const asked = await stopsAt(path, 200, async (following) => await following);
    expect(asked).toEqual(['/init_broadcaster', '/pause', '/update_weights', '/resume']);
  });

  it('says so when that goes wrong', async () => {
    const asked = await stopsAt('/update_weights', 500, async (following) => {
      await expectCode(following, 'WC_UPDATE_QUARANTINED');
    });
    expect(asked.at(-1)).toBe('/update_weights');
  });
});

describe('files of a trainer of the dotfiles, which are written once it is answered', () => {
  it.each([
    ['model.safetensors', ['/pause', '/update_weights', '/resume']],
    ['adapter_config.json', ['/load_lora_adapter']],
  ])('waits for %s before any engine is asked for anything', async (file, expected) => {
    await withBroadcasts(async (broadcasts) => {
      const trainer = startPeer('trainer', 'dotfiles', broadcasts, 1, [file]);
      const written: boolean[] = [];
      const watched = Object.fromEntries(
        expected.map((path) => [
          path,
          () => {
            written.push(existsSync(join(broadcasts, 'step_1', '.finished')));
            return [200, { status: 'ok' }] as const;
          },
        ]),
      );
      await withFakes([watched], async ([engine]) => {
        const stop = new AbortController();
        await followTrainer([engine?.url ?? ''], {
          admin: filesAdmin,
          broadcasts,
          signal: stop.signal,
          pollMs: 5,
          onUpdated: () => stop.abort(),
        });
        expect(await trainer.rest()).toEqual(['announced', 'sending']);
        expect(engine?.asked).toEqual(expected);
        expect(written).toEqual(expected.map(() => true));
      });
    });
  });

  /** Follows a trainer that never writes; `then` runs once it is answered. */
  const unwritten = async (
    changes: Partial<FollowOptions>,
    then: (step: string, stop: AbortController) => void,
    use: (following: Promise<void>) => Promise<unknown>,
  ) => {
    await withBroadcasts(async (broadcasts) => {
      // Of a run before, which cleaned up nothing.
      stable(broadcasts, 1, ['.finished']);
      utimesSync(join(broadcasts, 'step_1', '.finished'), 1_000, 1_000);
      stable(broadcasts, 1, ['.sender_ready']);
      await withFakes([{}], async ([engine]) => {
        const stop = new AbortController();
        const options = { admin: filesAdmin, broadcasts, signal: stop.signal, pollMs: 5 };
        const ended = use(
          followTrainer([engine?.url ?? ''], { ...options, onLog: () => stop.abort(), ...changes }),
        );
        const step = join(broadcasts, 'step_1');
        await vi.waitFor(() => expect(existsSync(join(step, '.receiver_ready'))).toBe(true));
        then(step, stop);
        await ended;
        expect(engine?.asked).toEqual([]);
      });
    });
  };

  it('touches nobody when the trainer goes away before it has finished', async () => {
    const lines: string[] = [];
    const stop = new AbortController();
    const onLog = (line: string) => {
      lines.push(line);
      stop.abort();
    };
    await unwritten(
      { onLog, signal: stop.signal },
      (step) => rmSync(step, { recursive: true }),
      (following) => following,
    );
    expect(lines).toEqual(['version 1 was withdrawn: looking again']);
  });

  it('touches nobody when it is told to stop meanwhile', async () => {
    await unwritten(
      {},
      (_, stop) => stop.abort(),
      (following) => following,
    );
  });

  it('does not wait without end', async () => {
    await unwritten(
      { writeTimeoutMs: 20 },
      () => undefined,
      (following) => expectCode(following, 'WC_RENDEZVOUS_TIMEOUT'),
    );
  });
});

it('gives each version of an adapter a name of its own where a loaded name is not replaced, and lets go of the one before', async () => {
  await withBroadcasts(async (broadcasts) => {
    const announce = (version: number, ms: number) => {
      stable(broadcasts, version, ['adapter_config.json', 'STABLE']);
      utimesSync(join(broadcasts, `step_${version}`, 'STABLE'), ms / 1_000, ms / 1_000);
    };
    const requests: string[] = [];
    const seen = (path: string) => (received: { readonly body: string }) => {
      requests.push(`${path} ${String((JSON.parse(received.body) as { lora_name: string }).lora_name)}`);
      return [200, {}] as const;
    };
    const answers: Answers = {
      '/load_lora_adapter': seen('load'),
      '/unload_lora_adapter': seen('unload'),
    };
    announce(7, 1_790_000_000_000);
    await withFakes([answers, {}], async (engines) => {
      const [dynamo, primeRl] = engines.map(({ url }) => url) as [string, string];
      const stop = new AbortController();
      const served: ReadonlyMap<string, string>[] = [];
      await followTrainer([dynamo, primeRl], {
        admin: (target) =>
          target.id === dynamo ? { ...fakeAdmin(target), backend: 'dynamo' } : fakeAdmin(target),
        broadcasts,
        signal: stop.signal,
        pollMs: 5,
        onUpdated: (_, adapters) => {
          served.push(adapters);
          // The trainer goes back, and announces the same version again.
          if (served.length === 1) announce(7, 1_790_000_001_000);
          else stop.abort();
        },
      });
      expect(requests).toEqual([
        'load policy-v7-1790000000000',
        'load policy-v7-1790000001000',
        'unload policy-v7-1790000000000',
      ]);
      expect(engines[1]?.asked).toEqual(['/load_lora_adapter', '/load_lora_adapter']);
      expect(served[1]).toEqual(
        new Map([
          [dynamo, 'policy-v7-1790000001000'],
          [primeRl, 'policy'],
        ]),
      );
    });
  });
});

it('says, when it is interrupted while they join, that the engines go on waiting for the trainer', async () => {
  const asked = deferred<void>();
  await withBroadcasts((broadcasts) =>
    withServer(
      () => asked.resolve(),
      async ({ url }) => {
        const stop = new AbortController();
        const lines: string[] = [];
        const onLog = (line: string) => lines.push(line);
        const following = followTrainer([url], {
          ...{ admin, broadcasts, group: { ...group, inferenceWorldSize: 1 }, signal: stop.signal, onLog },
          ...NO_WORD,
        });
        await asked.promise;
        stop.abort();
        await following;
        expect(lines).toEqual([expect.stringContaining('they wait for it until the timeout')]);
      },
    ),
  );
});
