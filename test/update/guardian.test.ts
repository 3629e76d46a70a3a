/** The guardian of a session that pushes again and again. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { processesWith } from '../cli/spawned.js';
import { until } from './scene.js';
import { withBench } from './support.js';

it('that was killed is followed by another, which gets no key of the engines from the environment', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'weightcast-guardian-'));
  const marker = `WEIGHTCAST_MARKER=${folder}`;
  vi.stubEnv('WEIGHTCAST_MARKER', folder);
  vi.stubEnv('WEIGHTCAST_KEY', 'a secret');
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
  try {
    await withBench({ engines: 1, workers: 1 }, async ({ connect, b, c }) => {
      const others = new Set((await processesWith(marker)).map(Number));
      const guardians = async () =>
        (await processesWith(marker)).map(Number).filter((pid) => !others.has(pid));
      const session = await connect({ stateDir: folder, guardian: true, headers: { 'x-key': 'a secret' } });
      await session.update(b);
      const [first] = await guardians();
      expect(await processesWith('NODE_TLS_REJECT_UNAUTHORIZED=0')).toContain(String(first));
      expect(await processesWith('WEIGHTCAST_KEY=')).not.toContain(String(first));
      process.kill(first as number, 'SIGKILL');
      await until(async () => (await guardians()).length === 0);
      const { notes } = await session.update(c);
      expect(notes).not.toContainEqual(expect.stringContaining('guardian did not start'));
      expect(await guardians()).toHaveLength(1);
      await session.close();
      expect(await guardians()).toEqual([]);
    });
  } finally {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true });
  }
});
