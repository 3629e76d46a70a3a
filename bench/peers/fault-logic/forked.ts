/** A peer in a process of its own: one that can be killed, and whose libraries have faults of their own. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import {
  type Coordinator,
  CoordinatorKilled,
  type CoordinatorSetup,
} from '../../../test/faults/coordinator.js';
import { outcomeOf, type PeerEnd, type PeerJob, type PeerOptions } from './coordinator.js';

const PROGRAM = fileURLToPath(new URL('./process.ts', import.meta.url));
const LOADER = new URL('../../../test/faults/typescript.mjs', import.meta.url).href;

export type ToProcess = { readonly kind: 'push'; readonly job: PeerJob } | { readonly kind: 'interrupt' };
export type FromProcess = { readonly kind: 'ready' } | { readonly kind: 'end'; readonly end: PeerEnd };

export function peerForked(
  options: PeerOptions,
  { engines, settings, environment }: CoordinatorSetup,
): Coordinator {
  let child: ChildProcess | null = null;
  return {
    name: `${options.peer}, in a process of its own`,
    push: async ({ checkpoint, signal }) => {
      const env = { ...process.env, ...environment };
      const execArgv = ['--import', LOADER];
      const started = fork(PROGRAM, [], { execArgv, env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
      child = started;
      const gone = once(started, 'exit').then(() => {
        throw new CoordinatorKilled(`the process of ${options.peer} is gone`);
      });
      gone.catch(() => undefined);
      const tell = (message: ToProcess): void => {
        if (started.connected) started.send(message, () => undefined);
      };
      await Promise.race([once(started, 'message'), gone]);
      signal.addEventListener('abort', () => tell({ kind: 'interrupt' }), { once: true });
      const { packedBufferBytes } = settings;
      tell({ kind: 'push', job: { ...options, engines, checkpoint, packedBufferBytes } });
      const [message] = (await Promise.race([once(started, 'message'), gone])) as [FromProcess];
      started.kill('SIGKILL');
      if (message.kind !== 'end') throw new Error('a peer process said that it is ready twice');
      return outcomeOf(engines, message.end);
    },
    kill: () => {
      child?.kill('SIGKILL');
    },
    close: async () => {
      child?.kill('SIGKILL');
    },
  };
}
