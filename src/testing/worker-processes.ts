/** Starts the workers of an engine: each in a process of its own, as vLLM does, or all in the engine's process. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { spawnProgram } from './entry.js';
import { Peer } from './peer.js';
import { Worker, type WorkerStart } from './worker/worker.js';
import { Workers } from './workers.js';

/** Starts and loads all workers; `onLost` when one of their processes ends. */
export async function startWorkerProcesses(
  options: Omit<WorkerStart, 'rank'>,
  environment: Readonly<Record<string, string>>,
  onLost: () => void,
): Promise<Workers> {
  const children = Array.from({ length: options.size }, () =>
    spawnProgram('worker-main', 'inherit', environment),
  );
  const ports = children.map((child) => new Peer(child, { lost: onLost }));
  try {
    const started = await Promise.all(
      ports.map((port, rank) =>
        port.call<{ vocabulary: number }>({ kind: 'start', options: { ...options, rank } }),
      ),
    );
    return new Workers({
      ports,
      pids: children.flatMap((child) => child.pid ?? []),
      vocabulary: started[0]?.vocabulary ?? 1,
      close: async () => {
        await Promise.all(children.map(ended));
      },
    });
  } catch (error) {
    for (const child of children) {
      child.kill('SIGKILL');
    }
    throw error;
  }
}

/** Closes the channel and waits until it has ended. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  if (child.connected) child.disconnect();
  await exited;
}

/** Starts and loads all workers in this process. One that dies takes the process with it. */
export async function startWorkersHere(options: Omit<WorkerStart, 'rank'>): Promise<Workers> {
  const workers = await Promise.all(
    Array.from({ length: options.size }, (_, rank) => Worker.start({ ...options, rank })),
  );
  return new Workers({
    ports: workers.map((worker) => ({
      call: <T>(call: Parameters<Worker['call']>[0]) => worker.call(call) as Promise<T>,
    })),
    pids: [],
    vocabulary: workers[0]?.vocabulary ?? 1,
    close: async () => {
      for (const worker of workers) worker.interrupt();
    },
  });
}
