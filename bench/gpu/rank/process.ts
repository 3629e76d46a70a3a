/** Ranks as child processes that share one GPU. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Answer, Operation, Operations, Request } from './protocol.js';

/** How several ranks may share one GPU (contracts: NCCL §3.2). */
export type Sharing = 'hosts' | 'multi-rank';

/**
 * Settings of NCCL, the same on all ranks but for the host's name. `hosts`: each rank says that it is another host, so bytes go over sockets on
 * loopback, with every version. `multi-rank`: NCCL 2.30.3 and newer lets ranks share a GPU over CUDA IPC.
 */
export function ncclEnvironment(rank: number, sharing: Sharing): Record<string, string> {
  return {
    NCCL_SOCKET_IFNAME: 'lo',
    NCCL_NET: 'Socket',
    NCCL_IB_DISABLE: '1',
    NCCL_MNNVL_ENABLE: '0',
    NCCL_RAS_ENABLE: '0',
    // All ranks' blocks must be on the GPU at once.
    NCCL_MAX_CTAS: sharing === 'hosts' ? '2' : '4',
    CUDA_MODULE_LOADING: 'EAGER',
    ...(sharing === 'hosts'
      ? { NCCL_HOSTID: `weightcast-rank-${rank}` }
      : { NCCL_MULTI_RANK_GPU_ENABLE: '1' }),
  };
}

/** What a rank answered instead of a value. */
export class RankError extends Error {
  readonly code: string;

  constructor(operation: Operation, { code, message }: { readonly code: string; readonly message: string }) {
    super(`${operation}: ${message}`);
    this.code = code;
  }
}

export class RankProcess {
  readonly child: ChildProcess;
  #next = 1;

  constructor(environment: Record<string, string> = {}) {
    this.child = fork(fileURLToPath(new URL('./main.js', import.meta.url)), {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.child.setMaxListeners(0);
  }

  /** @throws RankError with the addon's code; Error when the process ends first */
  call<Name extends Operation>(operation: Name, argument: Operations[Name][0]): Promise<Operations[Name][1]> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const done = (): void => {
        this.child.off('message', onMessage);
        this.child.off('exit', onExit);
      };
      const onMessage = (answer: Answer): void => {
        if (answer.id !== id) return;
        done();
        if ('error' in answer) reject(new RankError(operation, answer.error));
        else resolve(answer.value as Operations[Name][1]);
      };
      const onExit = (): void => {
        done();
        reject(new Error(`${operation}: the rank's process ended`));
      };
      this.child.on('message', onMessage);
      this.child.on('exit', onExit);
      this.child.send({ id, operation, argument } satisfies Request);
    });
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }
}

/** Brings the ranks into one group; the first is rank 0. Milliseconds until all were in. */
export async function joinAll(ranks: readonly RankProcess[], timeoutMs: number): Promise<number> {
  const [root] = ranks;
  if (root === undefined) throw new RangeError('a group needs a rank');
  const uniqueId = await root.call('uniqueId', null);
  const began = performance.now();
  await Promise.all(
    ranks.map((rank, index) =>
      rank.call('join', { uniqueId, worldSize: ranks.length, rank: index, timeoutMs }),
    ),
  );
  return performance.now() - began;
}

/** Ranks that have joined; every process ends with `body`. */
export async function withRanks<T>(
  count: number,
  {
    sharing = 'hosts',
    joinTimeoutMs = 60_000,
  }: { readonly sharing?: Sharing; readonly joinTimeoutMs?: number },
  body: (ranks: readonly [RankProcess, ...RankProcess[]]) => Promise<T>,
): Promise<T> {
  const ranks = Array.from(
    { length: count },
    (_, rank) => new RankProcess(ncclEnvironment(rank, sharing)),
  ) as [RankProcess, ...RankProcess[]];
  try {
    await Promise.all(ranks.map((rank) => rank.call('open', { device: 0 })));
    await joinAll(ranks, joinTimeoutMs);
    return await body(ranks);
  } finally {
    await Promise.all(ranks.map((rank) => rank.kill()));
  }
}
