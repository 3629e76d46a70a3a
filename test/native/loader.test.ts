import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { hasCode, WeightcastError } from '../../src/errors.js';
import { native } from '../../src/native.js';
import { libraries, openRuntime, withFolder } from './support.js';

async function failure(work: Promise<unknown>): Promise<WeightcastError> {
  try {
    await work;
  } catch (error) {
    expect(error).toBeInstanceOf(WeightcastError);
    return error as WeightcastError;
  }
  throw new Error('it did not fail');
}

/** open() in a process of its own, which has not loaded anything yet. */
async function openElsewhere(
  env: Record<string, string>,
  cuda: string | null,
  nccl: string | null,
  changedMeanwhile: Record<string, string> = {},
) {
  const program = `
    const addon = require(${JSON.stringify(process.env['WEIGHTCAST_ADDON'] ?? 'build/Release/weightcast.node')});
    addon.open(${JSON.stringify(cuda)}, ${JSON.stringify(nccl)}).then(
      (runtime) => console.log(JSON.stringify({ cuda: runtime.cudaLibrary, nccl: runtime.ncclLibrary })),
      (error) => console.log(JSON.stringify({ code: error.code, message: error.message })));
    Object.assign(process.env, ${JSON.stringify(changedMeanwhile)});`;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['-e', program.replace('require("build', 'require("./build')],
    {
      env: { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', ...env },
    },
  );
  return JSON.parse(stdout) as { code?: string; message: string; cuda?: string; nccl?: string };
}

/** A library that only says that it is NCCL of some version. */
async function buildNccl(folder: string, version: number): Promise<string> {
  const source = join(folder, 'nccl.c');
  const library = join(folder, 'libnccl.so.2');
  await writeFile(source, `int ncclGetVersion(int *version) { *version = ${version}; return 0; }\n`);
  await promisify(execFile)('cc', ['-shared', '-fPIC', '-o', library, source]);
  return library;
}

describe('open', () => {
  it('gives the libraries, their versions and the devices', async () => {
    const runtime = await openRuntime();
    expect(runtime.cudaLibrary).toBe(libraries.cuda);
    expect(runtime.ncclLibrary).toBe(libraries.nccl);
    expect(runtime.ncclVersion).toBeGreaterThanOrEqual(21800);
    expect(runtime.cudaDriverVersion).toBeGreaterThanOrEqual(12000);
    expect(runtime.emulated).toBe(true);
    const [device] = runtime.devices();
    expect(device?.index).toBe(0);
    expect(device?.name).toContain('emulated');
    expect(device?.uuid).toMatch(/^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    const memory = await runtime.memory(0);
    expect(memory.total).toBe(device?.totalMemory);
    expect(memory.free).toBeLessThanOrEqual(memory.total);
    expect((await runtime.uniqueId()).length).toBe(128);
  });

  it('never falls back from an explicit path that does not load', async () => {
    const cuda = await failure(native().open('/nowhere/libcuda.so.1', libraries.nccl));
    expect(cuda.code).toBe('WC_CUDA_NO_DRIVER');
    expect(cuda.message).toContain('/nowhere/libcuda.so.1: cannot open shared object file');
    expect(cuda.message).toContain('Install the NVIDIA driver');
    const nccl = await failure(native().open(libraries.cuda, '/nowhere/libnccl.so.2'));
    expect(nccl.code).toBe('WC_NCCL_NOT_FOUND');
    expect(nccl.message).toContain('/nowhere/libnccl.so.2');
    expect(nccl.details['tried']).toHaveLength(1);
  });

  it('takes paths from the environment, and names the variable when they do not load', async () => {
    const found = await openElsewhere(
      { WEIGHTCAST_CUDA_LIBRARY: libraries.cuda, WEIGHTCAST_NCCL_LIBRARY: libraries.nccl },
      null,
      null,
    );
    expect(found).toEqual({ cuda: libraries.cuda, nccl: libraries.nccl });
    const missing = await openElsewhere({ WEIGHTCAST_NCCL_LIBRARY: '/nowhere' }, libraries.cuda, null);
    expect(missing.code).toBe('WC_NCCL_NOT_FOUND');
    expect(missing.message).toContain('WEIGHTCAST_NCCL_LIBRARY');
  });

  it('takes the environment as it is at the call: another thread must not read it while JavaScript writes', async () => {
    const opened = await openElsewhere(
      { WEIGHTCAST_CUDA_LIBRARY: libraries.cuda, WEIGHTCAST_NCCL_LIBRARY: libraries.nccl },
      null,
      null,
      {
        WEIGHTCAST_CUDA_LIBRARY: '/nowhere',
        WEIGHTCAST_NCCL_LIBRARY: '/nowhere',
        NCCL_COMM_ID: '127.0.0.1:1',
      },
    );
    expect(opened).toEqual({ cuda: libraries.cuda, nccl: libraries.nccl });
  });

  it('finds the wheel of a virtual environment, and lists every place when there is none', async () => {
    await withFolder(async (folder) => {
      const missing = await openElsewhere({ VIRTUAL_ENV: folder }, libraries.cuda, null);
      expect(missing.code).toBe('WC_NCCL_NOT_FOUND');
      expect(missing.message).toContain(
        `${folder}/lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2: no such file`,
      );
      expect(missing.message).toContain('pip install nvidia-nccl-cu13');
      const place = join(folder, 'lib/python3.11/site-packages/nvidia/nccl/lib');
      await promisify(execFile)('mkdir', ['-p', place]);
      await promisify(execFile)('cp', [libraries.nccl, place]);
      const found = await openElsewhere({ VIRTUAL_ENV: folder }, libraries.cuda, null);
      expect(found.nccl?.startsWith(place)).toBe(true);
    });
  });

  it('refuses an NCCL older than 2.18 and a library that is not NCCL', async () => {
    await withFolder(async (folder) => {
      const old = await failure(native().open(libraries.cuda, await buildNccl(folder, 21706)));
      expect(old.code).toBe('WC_NCCL_TOO_OLD');
      expect(old.message).toContain('NCCL 2.17.6');
    });
    const other = await failure(native().open(libraries.cuda, libraries.cuda));
    expect(other.code).toBe('WC_NCCL_NOT_FOUND');
    expect(other.message).toContain('lacks ncclGetVersion');
  });

  it('tells a driver that does not work from one that sees no device', async () => {
    const open = (fault: string) =>
      openElsewhere({ WEIGHTCAST_EMULATOR_FAULTS: fault }, libraries.cuda, libraries.nccl);
    expect((await open('no-device')).code).toBe('WC_CUDA_NO_DEVICE');
    expect((await open('no-driver')).code).toBe('WC_CUDA_NO_DRIVER');
  });

  it('refuses settings that would make NCCL ignore the rendezvous', async () => {
    const open = (env: Record<string, string>) => openElsewhere(env, libraries.cuda, libraries.nccl);
    const id = await open({ NCCL_COMM_ID: '127.0.0.1:5000' });
    expect(id.code).toBe('WC_CONFIG_INVALID');
    expect(id.message).toContain('NCCL_COMM_ID');
    expect((await open({ NCCL_COMM_BLOCKING: '1' })).code).toBe('WC_CONFIG_INVALID');
  });

  it('checks what it is given, and the kind of every handle', async () => {
    const wrong = await failure(native().open(undefined as unknown as null, null));
    expect(hasCode(wrong, 'WC_NATIVE_ARGUMENT')).toBe(true);
    const runtime = await openRuntime();
    const communicator = await runtime.communicator(0);
    const buffer = await communicator.allocate(16);
    await expect(
      buffer.copyFrom(communicator as never, {
        sourceOffset: 0,
        blockBytes: 1,
        strideBytes: 1,
        count: 1,
        targetOffset: 0,
      }),
    ).rejects.toMatchObject({ code: 'WC_NATIVE_ARGUMENT', message: 'expected a DeviceBuffer handle' });
    await expect(buffer.read(8, 9)).rejects.toMatchObject({ code: 'WC_NATIVE_ARGUMENT' });
    await expect(buffer.read(-1, 1)).rejects.toMatchObject({ code: 'WC_NATIVE_ARGUMENT' });
    await communicator.destroy(1_000);
  });

  it('names a device that does not exist', async () => {
    const runtime = await openRuntime();
    expect((await failure(runtime.communicator(999))).code).toBe('WC_CUDA_FAILED');
  });
});
