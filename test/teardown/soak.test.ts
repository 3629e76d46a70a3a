import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { environment } from '../native/support.js';
import { run } from '../peers/support/process.js';

const soak = (cycles: number, env: Readonly<Record<string, string>> = {}) =>
  run(
    process.execPath,
    ['--expose-gc', fileURLToPath(new URL('./soak/soak.mjs', import.meta.url)), '--cycles', String(cycles)],
    { env: { ...environment(), ...env }, timeoutMs: 200_000 },
  );

it('stays flat over 2,000 lives of communicators', { timeout: 240_000 }, async () => {
  const { code, stdout, stderr } = await soak(2_000);
  process.stdout.write(stdout.slice(stdout.trimEnd().lastIndexOf('\n') + 1));
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/^FLAT after 2000 cycles/m);
});

it('fails when a library leaks what the real one leaks', { timeout: 240_000 }, async () => {
  const { code, stderr } = await soak(500, { WEIGHTCAST_EMULATOR_FAULTS: 'leak-init' });
  expect(code).toBe(1);
  expect(stderr).toMatch(/the threads of closed communicators ended; there are .*nccl-root/);
});
