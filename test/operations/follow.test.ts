/** weightcast as the orchestrator of a trainer that a script plays as the contract has it. */
import { mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { followTrainer } from '../../src/operations/index.js';
import { errorOf } from '../engines/client.js';
import { startPeer } from '../transports/filesystem/prime-rl/peer.js';
import { type Answers, fakeAdmin, withFakes } from './fake-engine.js';

const admin = fakeAdmin;
const group = { host: '127.0.0.1', port: 29_501, inferenceWorldSize: 2 };

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

it('ends with the engine that did not finish, which stays paused', async () => {
  await withBroadcasts(async (broadcasts) => {
    const broken: Answers = { ...announces(broadcasts), '/update_weights': () => [500, {}] };
    await withFakes([broken], async ([engine]) => {
      const following = followTrainer([engine?.url ?? ''], {
        admin,
        broadcasts,
        group,
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
