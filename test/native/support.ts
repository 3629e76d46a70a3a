import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  emulatorLibraries,
  type NativeCommunicator,
  type NativePlan,
  type NativeRuntime,
  native,
} from '../../src/native.js';

/** The emulated libraries; a build folder of one's own is named by the environment. */
export const libraries = {
  cuda: process.env['WEIGHTCAST_TEST_CUDA'] ?? emulatorLibraries.cuda,
  nccl: process.env['WEIGHTCAST_TEST_NCCL'] ?? emulatorLibraries.nccl,
};

const root = fileURLToPath(new URL('../../', import.meta.url));
/** Of child processes that load the addon. */
export const environment = (): NodeJS.ProcessEnv => ({
  ...process.env,
  WEIGHTCAST_ADDON: process.env['WEIGHTCAST_ADDON'] ?? `${root}build/Release/weightcast.node`,
  WEIGHTCAST_TEST_CUDA: libraries.cuda,
  WEIGHTCAST_TEST_NCCL: libraries.nccl,
});

const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

export const openRuntime = (): Promise<NativeRuntime> => native().open(libraries.cuda, libraries.nccl);

export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'weightcast-native-'));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Communicators of one group in this process, a thread each; rank = index. */
export async function withGroup<T>(
  size: number,
  use: (ranks: readonly NativeCommunicator[], runtime: NativeRuntime) => Promise<T>,
): Promise<T> {
  const runtime = await openRuntime();
  const ranks = await Promise.all(Array.from({ length: size }, () => runtime.communicator(0)));
  try {
    const uniqueId = await runtime.uniqueId();
    await Promise.all(
      ranks.map((rank, index) => rank.init({ uniqueId, worldSize: size, rank: index, timeoutMs: 10_000 })),
    );
    return await use(ranks, runtime);
  } finally {
    await Promise.all(ranks.map((rank) => rank.abort().then(() => rank.destroy(1_000))));
  }
}

/** What an operation of a peer failed with; the message begins with the code. */
export class PeerError extends Error {
  readonly code: string;
  readonly text: string;
  readonly remedy: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor({ code, message, remedy, details }: NonNullable<PeerAnswer['error']>) {
    super(`${code}: ${message}`);
    this.code = code;
    this.text = message;
    this.remedy = remedy;
    this.details = details;
  }
}

interface PeerAnswer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: {
    readonly code: string;
    readonly message: string;
    readonly remedy: string;
    readonly details: Readonly<Record<string, unknown>>;
  };
}

/** A rank in a process of its own, running rank.mjs. */
export class PeerProcess {
  readonly child: ChildProcess;
  #next = 1;

  constructor(faults = '', env: NodeJS.ProcessEnv = {}) {
    this.child = fork(script('./rank.mjs'), {
      env: { ...environment(), ...env, WEIGHTCAST_EMULATOR_FAULTS: faults },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
  }

  call(operation: string, argument: Record<string, unknown> = {}): Promise<unknown> {
    const id = this.#next++;
    const answer = new Promise<unknown>((resolve, reject) => {
      const cleanUp = (): void => {
        this.child.off('message', onMessage);
        this.child.off('exit', onExit);
      };
      const onMessage = ({ id: answered, value, error }: PeerAnswer): void => {
        if (answered !== id) return;
        cleanUp();
        if (error === undefined) resolve(value);
        else reject(new PeerError(error));
      };
      const onExit = (): void => {
        cleanUp();
        reject(new Error('the peer process ended'));
      };
      this.child.on('message', onMessage);
      this.child.on('exit', onExit);
    });
    this.child.send({ id, operation, argument });
    return answer;
  }

  /** The error that an operation ends in. */
  async failure(operation: string, argument: Record<string, unknown> = {}): Promise<PeerError> {
    const value = await this.call(operation, argument).catch((error: unknown) => error);
    if (value instanceof PeerError) return value;
    throw new Error(`${operation} did not fail in the peer, or the peer ended: ${String(value)}`);
  }

  /** Resolves with the exit code, or the signal, when the process has ended by itself. */
  async ended(): Promise<number | NodeJS.Signals | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit');
    return this.child.exitCode ?? this.child.signalCode;
  }

  /** Lets go of it: it ends when nothing holds its event loop. */
  leave(): Promise<number | NodeJS.Signals | null> {
    this.child.disconnect();
    return this.ended();
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended();
  }
}

/** Kills the peers when `use` is done. */
export async function withPeer<T>(peer: PeerProcess, use: (peer: PeerProcess) => Promise<T>): Promise<T> {
  try {
    return await use(peer);
  } finally {
    await peer.kill();
  }
}

/** Rank 0 here, the peers behind it in their own processes. */
export async function joinPeers(
  peers: readonly PeerProcess[],
  timeoutMs = 10_000,
): Promise<NativeCommunicator> {
  const runtime = await openRuntime();
  const communicator = await runtime.communicator(0);
  const uniqueId = await runtime.uniqueId();
  const worldSize = peers.length + 1;
  await Promise.all(peers.map((peer) => peer.call('open')));
  await Promise.all([
    communicator.init({ uniqueId, worldSize, rank: 0, timeoutMs }),
    ...peers.map((peer, index) =>
      peer.call('join', { uniqueId: [...uniqueId], worldSize, rank: index + 1, timeoutMs }),
    ),
  ]);
  return communicator;
}

/** Longest time that the event loop did not turn while `work` ran. */
export async function longestStall(work: () => Promise<unknown>): Promise<number> {
  let last = performance.now();
  let longest = 0;
  const tick = (): void => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  };
  const timer = setInterval(tick, 1);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  tick();
  return longest;
}

export type RangeSpec =
  | { readonly file: number; readonly offset: number; readonly length: number }
  | { readonly device: number; readonly offset: number; readonly length: number }
  | { readonly host: Uint8Array };

/** A NativePlan of readable frames. */
export function makePlan(
  files: readonly { readonly path: string; readonly size: number }[],
  frames: readonly (readonly RangeSpec[])[],
  options: Partial<NativePlan> = {},
): NativePlan {
  const ranges = frames.flat();
  const host: number[] = [];
  const placed = ranges.map((range) => {
    if ('file' in range) return { kind: 0, source: range.file, offset: range.offset, length: range.length };
    if ('device' in range)
      return { kind: 1, source: range.device, offset: range.offset, length: range.length };
    const offset = host.length;
    host.push(...range.host);
    return { kind: 2, source: 0, offset, length: range.host.length };
  });
  const lengthOf = (range: RangeSpec): number => ('host' in range ? range.host.length : range.length);
  const largest = Math.max(
    1,
    ...frames.map((frame) => frame.reduce((sum, range) => sum + lengthOf(range), 0)),
  );
  return {
    files: files.map((file) => file.path),
    fileSizes: Float64Array.from(files, (file) => file.size),
    rangeKind: Uint8Array.from(placed, (range) => range.kind),
    rangeSource: Uint32Array.from(placed, (range) => range.source),
    rangeOffset: Float64Array.from(placed, (range) => range.offset),
    rangeLength: Float64Array.from(placed, (range) => range.length),
    frameRanges: Uint32Array.from(frames, (frame) => frame.length),
    deviceBuffers: [],
    hostBytes: Uint8Array.from(host),
    slots: 2,
    slotBytes: largest,
    pieces: 2,
    pieceBytes: 64 * 1024,
    root: 0,
    ...options,
  };
}
