/** weightcast in a process of its own: one that can be killed, and whose libraries have faults of their own. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { UpdateReport } from '../../src/update/types.js';
import {
  type Coordinator,
  CoordinatorKilled,
  type CoordinatorSetup,
  type Outcome,
  type PushJob,
} from './coordinator.js';
import { optionsOf, outcomeOf, refusal } from './weightcast.js';

const PROGRAM = fileURLToPath(new URL('./push-process.mjs', import.meta.url));
const CLOSE_MS = 3_000;

type Message =
  | { readonly kind: 'ready' }
  | {
      readonly kind: 'result';
      readonly result: { readonly report?: UpdateReport; readonly error?: { code: string; message: string } };
    };

/** The first push starts the process; so does the push after it was killed. */
export function forkedWeightcast(setup: CoordinatorSetup): Coordinator {
  let child: ChildProcess | null = null;
  let environment = setup.environment;
  const start = async (): Promise<ChildProcess> => {
    const started = fork(PROGRAM, [], {
      execArgv: [],
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    // Whoever starts it again starts one that works.
    environment = {};
    await Promise.race([once(started, 'message'), once(started, 'exit')]);
    return started;
  };
  return {
    name: 'weightcast in a process of its own',
    push: async (job) => {
      if (child === null || gone(child)) child = await start();
      return pushIn(child, setup, job);
    },
    kill: () => {
      child?.kill('SIGKILL');
    },
    close: async () => {
      if (child === null || gone(child)) return;
      const ended = once(child, 'exit');
      if (child.connected) child.send({ kind: 'close' });
      await Promise.race([ended, sleep(CLOSE_MS, undefined, { ref: false })]);
      child.kill('SIGKILL');
    },
  };
}

const gone = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

async function pushIn(
  child: ChildProcess,
  { engines, names, settings }: CoordinatorSetup,
  { checkpoint, weightVersion, signal }: PushJob,
): Promise<Outcome> {
  const interrupt = (): void => {
    if (child.connected) child.send({ kind: 'interrupt' });
  };
  signal.addEventListener('abort', interrupt, { once: true });
  try {
    return await new Promise<Outcome>((resolve, reject) => {
      child.once('exit', () => reject(new CoordinatorKilled('the coordinator was killed')));
      child.on('message', (message: Message) => {
        if (message.kind !== 'result') return;
        const { report, error } = message.result;
        resolve(report === undefined ? refusal(engines, error) : outcomeOf(report));
      });
      child.send(
        { kind: 'push', options: optionsOf(names, settings), checkpoint, weightVersion },
        (error) => {
          if (error !== null) reject(new CoordinatorKilled('the coordinator was killed', { cause: error }));
        },
      );
    });
  } finally {
    signal.removeEventListener('abort', interrupt);
    child.removeAllListeners('message');
    child.removeAllListeners('exit');
  }
}
