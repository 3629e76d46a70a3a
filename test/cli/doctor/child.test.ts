import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { probeLibraries } from '../../../src/cli/doctor/child.js';

const OPTIONS = { emulate: false, cudaLibrary: '/c', ncclLibrary: null };

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-probe-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function probed(source: string, timeoutMs = 20_000) {
  const program = join(folder, 'probe.mjs');
  await writeFile(
    program,
    `const step = (step) => new Promise((done) => process.send({ kind: 'step', step }, done));\n${source}`,
  );
  return await probeLibraries(OPTIONS, { timeoutMs, program });
}

test('a crash is reported with what was being done and what was printed', async () => {
  const result = await probed(`
    await step('opening libcuda and libnccl');
    process.stderr.write('undefined symbol', () => process.kill(process.pid, 'SIGSEGV'));
    setInterval(() => {}, 1000);
  `);
  expect(result).toEqual({
    kind: 'crashed',
    step: 'opening libcuda and libnccl',
    how: 'SIGSEGV',
    output: 'undefined symbol',
  });
});

test('a process that ends without a result counts as crashed', async () => {
  expect(await probed('process.exit(7)')).toMatchObject({
    kind: 'crashed',
    step: 'starting',
    how: 'exit code 7',
  });
});

test('a hang ends at the deadline', async () => {
  const result = await probed("await step('cuInit'); setInterval(() => {}, 1000);", 1500);
  expect(result).toEqual({ kind: 'hung', step: 'cuInit', afterMs: 1500 });
});

test('the result is what the process found for the options that it got', async () => {
  const result = await probed("process.send({ kind: 'found', libraries: JSON.parse(process.argv[2]) })");
  expect(result).toEqual({ kind: 'found', libraries: OPTIONS });
});

test('of endless output only the end is kept', async () => {
  const result = await probed("process.stdout.write('x'.repeat(1e6) + 'end', () => process.exit(1))");
  expect(result.kind === 'crashed' && result.output.length).toBe(4000);
  expect(result.kind === 'crashed' && result.output.endsWith('end')).toBe(true);
});
