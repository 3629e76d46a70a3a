import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('./peer.py', import.meta.url));

export interface Peer {
  /** The next line that it says. */
  next(): Promise<string>;
  /** Everything that it still says, once it has ended well. */
  rest(): Promise<readonly string[]>;
  kill(): Promise<void>;
}

/** Runs prime-rl's half of the handshake as a process of its own. */
export function startPeer(
  role: 'orchestrator' | 'trainer',
  generation: 'stable' | 'dotfiles',
  broadcasts: string,
  version: number,
  files: readonly string[] = [],
): Peer {
  const child = spawn('python3', [PROGRAM, role, generation, broadcasts, String(version), ...files], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit') as Promise<[number | null]>;
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    next: async () => (await lines.next()).value ?? '',
    rest: async () => {
      const said: string[] = [];
      for (let line = await lines.next(); line.done !== true; line = await lines.next())
        said.push(line.value);
      const [code] = await ended;
      if (code !== 0) throw new Error(`the peer ended with ${String(code)}`);
      return said;
    },
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
