/** Plain C programs that do the same work another way, or only the part of it that nobody can leave out. */
import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';

export interface Ran {
  readonly seconds: number;
  /** Of what was written. */
  readonly bytes: number;
  /** Blocks that differ, or elements. */
  readonly found: number;
}

export type PeerMode = 'read' | 'xor' | 'unxor' | 'pairs';
export type Peer = (mode: PeerMode, paths: readonly string[]) => Promise<Ran>;

/** With a thread a core, as ours. */
export const peersOf =
  (program: string, signal: AbortSignal): Peer =>
  async (mode, paths) => {
    const args = [mode, String(availableParallelism()), ...paths];
    const { stdout } = await promisify(execFile)(program, args, { signal });
    const [seconds = Number.NaN, bytes = Number.NaN, found = Number.NaN] = stdout.split(' ').map(Number);
    return { seconds, bytes, found };
  };
