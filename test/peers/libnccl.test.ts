/** The official libnccl on a machine without a GPU: what it answers (contracts/nccl.md section 4), and what we say then. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { madeTensor, writeCheckpoint } from './support/checkpoint.js';
import { push, weightcast } from './support/command.js';
import { lane } from './support/lane.js';
import { run } from './support/process.js';
import { startReceiver } from './support/receiver.js';
import { reportLane } from './support/report.js';
import { emulatedCuda } from './support/server.js';
import { ncclPackages } from './support/venv.js';

const script = fileURLToPath(new URL('support/libnccl_probe.py', import.meta.url));
const hasDriver = await run('python3', ['-c', 'import ctypes; ctypes.CDLL("libcuda.so.1")']);

if (hasDriver.code === 0) {
  reportLane('libnccl without a GPU', 'SKIPPED', 'this machine has an NVIDIA driver', 0);
  test.skip('libnccl without a GPU (SKIPPED: this machine has an NVIDIA driver)', () => {});
} else {
  await lane('libnccl without a GPU', ncclPackages, (python) => {
    let directory: string;
    let library: string;

    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), 'weightcast-libnccl-'));
      await writeCheckpoint(directory, [[madeTensor('w', 'BF16', 'bfloat16', 2, [8, 8])]]);
      const [version] = await readdir(join(python.directory, 'lib'));
      library = join(python.directory, 'lib', version!, 'site-packages/nvidia/nccl/lib/libnccl.so.2');
    });
    afterAll(() => rm(directory, { recursive: true }));

    test('it answers as the contract says', async () => {
      const env = { NCCL_SOCKET_IFNAME: 'lo', NCCL_RAS_ENABLE: '0' };
      const probe = await run('python3', [script, library], { env });
      expect(JSON.parse(probe.stdout), probe.stderr).toEqual({
        ncclGetVersion: 0,
        version: 23007,
        ncclGetUniqueId: 0,
        idIsZero: false,
        ncclGroupStart: 0,
        ncclGroupEnd: 0,
        'unmatched ncclGroupEnd': 5,
        'ncclBroadcast of NULL': 4,
        'ncclCommDestroy of NULL': 0,
        'ncclCommAbort of NULL': 0,
        'ncclCommFinalize of NULL': 0,
        'ncclCommGetAsyncError of NULL': 4,
        'ncclGetUniqueId into NULL': 4,
        ncclCommInitRank: 1,
        commIsNull: true,
        lastError: expect.stringContaining('CUDA driver version is insufficient'),
        errors: [
          'no error',
          expect.stringMatching(/^unhandled cuda error/),
          expect.stringMatching(/^unhandled system error/),
          expect.stringMatching(/^internal error/),
          expect.stringMatching(/^invalid argument/),
          expect.stringMatching(/^invalid usage/),
          'remote process exited or there was a network error',
          'NCCL operation in progress',
          'timeout',
        ],
      });
    });

    test('a push says that there is no driver and what to do, and touches no engine', async () => {
      await using receiver = await startReceiver('0.32.0', 1);
      const env = { WEIGHTCAST_NCCL_LIBRARY: library };
      const pushed = await push(directory, [receiver], ['--transport', 'nccl'], { env });
      expect(pushed.code, pushed.stderr).toBe(1);
      expect(pushed.report).toMatchObject({
        outcome: 'failed',
        error: { code: 'WC_CUDA_NO_DRIVER', remedy: expect.stringContaining('--transport filesystem') },
        engines: [{ state: 'serving-old' }],
        pauseMs: null,
      });
      expect(await receiver.isPaused()).toBe(false);

      const plain = await weightcast(['push', directory, '-e', receiver.url], { env });
      expect(plain.code).toBe(1);
      expect(plain.stderr).toContain('WC_CUDA_NO_DRIVER');
      expect(plain.stderr).toContain('--transport filesystem');
    });

    test('a libnccl that is not there is another error', async () => {
      await using receiver = await startReceiver('0.32.0', 1);
      const missing = join(directory, 'libnccl.so.2');
      const args = ['--cuda-library', emulatedCuda, '--nccl-library', missing];
      const pushed = await push(directory, [receiver], args);
      expect(pushed.report.error, pushed.stderr).toMatchObject({
        code: 'WC_NCCL_NOT_FOUND',
        message: expect.stringContaining(missing),
      });
    });

    test('doctor finds the library and its version, names the missing driver, and ends with 1', async () => {
      const env = { WEIGHTCAST_NCCL_LIBRARY: library };
      const doctor = await weightcast(['doctor', '--json'], { env });
      const said = JSON.parse(doctor.stdout) as {
        ncclWithoutCuda: unknown;
        findings: { verdict: string; about: string; text: string; remedy: string | null }[];
      };
      expect(said.ncclWithoutCuda).toEqual({ version: 23007, library });
      expect(said.findings.filter(({ verdict }) => verdict === 'wrong')).toEqual([
        {
          verdict: 'wrong',
          about: 'libraries',
          text: expect.stringContaining('the CUDA driver (libcuda.so.1) could not be loaded'),
          remedy: expect.stringContaining('--transport filesystem'),
        },
      ]);
      expect(doctor.code).toBe(1);
    });
  });
}
