// Libraries and drivers that are not what they should be (contracts/nccl.md 1.1, 1.4, 4, 8.1, 8.2).
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { WeightcastError } from '../../src/errors.js';
import { native } from '../../src/native.js';
import { libraries, PeerProcess, withFolder, withPeer } from './support.js';

async function failure(work: Promise<unknown>): Promise<WeightcastError> {
  const value = await work.catch((error: unknown) => error);
  if (value instanceof WeightcastError) return value;
  throw new Error('it did not fail');
}

/** The symbols that the addon resolves, from its own table. */
function symbolsOf(header: string): string[] {
  const source = readFileSync(new URL(`../../native/src/core/${header}`, import.meta.url), 'utf8');
  return [...source.matchAll(/ F\(\w+, "(\w+)"/g)].map((match) => match[1]!);
}

/** A library that has all these names and does nothing; ncclGetVersion says 2.30.7. */
async function buildStub(folder: string, names: readonly string[]): Promise<string> {
  const source = join(folder, 'stub.c');
  const library = join(folder, 'stub.so');
  const functions = names.map((name) => `int ${name}(void) { return 0; }`);
  functions.push('int ncclGetVersion(int *version) { *version = 23007; return 0; }');
  functions.push('const char *ncclGetErrorString(int code) { return code ? "error" : "no error"; }');
  await writeFile(source, functions.join('\n'));
  await promisify(execFile)('cc', ['-shared', '-fPIC', '-w', '-o', library, source]);
  return library;
}

/** A copy in which nobody finds the symbol. */
async function withoutSymbol(library: string, symbol: string, copy: string): Promise<string> {
  const bytes = await readFile(library);
  const name = Buffer.from(`\0${symbol}\0`);
  const first = bytes.indexOf(name);
  expect(first).toBeGreaterThan(0);
  for (let at = first; at >= 0; at = bytes.indexOf(name, at + 1)) bytes.write('x', at + 1);
  await writeFile(copy, bytes);
  return copy;
}

describe('a library', () => {
  it('that lacks any one symbol of NCCL is refused, and the symbol is named', async () => {
    const names = symbolsOf('nccl_api.h');
    expect(names).toContain('ncclBroadcast');
    await withFolder(async (folder) => {
      const stub = await buildStub(folder, names);
      const whole = await native().open(libraries.cuda, stub);
      expect(whole.ncclVersion).toBe(23007); // ncclGetLastError is missing too, which is allowed
      for (const symbol of [...names, 'ncclGetErrorString', 'ncclGetVersion']) {
        const lacking = await withoutSymbol(stub, symbol, join(folder, `without-${symbol}.so`));
        const error = await failure(native().open(libraries.cuda, lacking));
        expect(error.code).toBe('WC_NCCL_NOT_FOUND');
        expect(error.message).toBe(`${lacking} is not a usable NCCL library: it lacks ${symbol}`);
        expect(error.remedy).toContain('WEIGHTCAST_NCCL_LIBRARY');
      }
    });
  });

  it('that lacks any one symbol of the CUDA driver is refused, and the symbol is named', async () => {
    const names = symbolsOf('cuda_api.h');
    expect(names).toContain('cuMemHostAlloc');
    await withFolder(async (folder) => {
      const stub = await buildStub(folder, names);
      for (const symbol of names) {
        const lacking = await withoutSymbol(stub, symbol, join(folder, `without-${symbol}.so`));
        const error = await failure(native().open(lacking, libraries.nccl));
        expect(error.code).toBe('WC_CUDA_NO_DRIVER');
        expect(error.message).toBe(`${lacking} is not a usable CUDA driver: it lacks ${symbol}`);
      }
    });
  });

  it('that is none is refused with what the loader says', async () => {
    await withFolder(async (folder) => {
      const script = join(folder, 'libnccl.so.2');
      await writeFile(script, `/* GNU ld script */ INPUT(libnccl.so.2.30.7)\n${' '.repeat(64)}`);
      const error = await failure(native().open(libraries.cuda, script));
      expect(error.code).toBe('WC_NCCL_NOT_FOUND');
      expect(error.message).toContain(`${script}: invalid ELF header`);
      expect((await failure(native().open(libraries.cuda, folder))).message).toContain(folder);
    });
  });

  it('for another processor is named as such, where the loader says only that there is no such file', async () => {
    await withFolder(async (folder) => {
      const foreign = join(folder, 'libnccl.so.2');
      const bytes = await readFile(libraries.nccl);
      const machineAt = 18;
      const [aarch64, x86] = [183, 62];
      const other = bytes.readUInt16LE(machineAt) === x86 ? aarch64 : x86;
      bytes.writeUInt16LE(other, machineAt);
      await writeFile(foreign, bytes);
      const error = await failure(native().open(libraries.cuda, foreign));
      expect(error.code).toBe('WC_NCCL_NOT_FOUND');
      expect(error.message).toMatch(/built for 64-bit (ARM|x86), not for this process's 64-bit (x86|ARM)/);
    });
  });

  for (const version of [21803, 22304, 22706, 23203]) {
    it(`of version ${version} takes our configuration, joins and broadcasts`, async () => {
      const env = { WEIGHTCAST_EMULATOR_NCCL_VERSION: String(version) };
      await withPeer(new PeerProcess('', env), async (rank) => {
        expect(await rank.call('libraries')).toBe(version);
        await rank.call('communicator');
        await rank.call('initAlone');
        await rank.call('allocate', { byteLength: 100 });
        await rank.call('broadcast', { byteLength: 100 });
        await rank.call('leave');
      });
    });
  }
});

describe('a device', () => {
  it('whose driver is too old for this NCCL is told from one that does not work', async () => {
    await withPeer(new PeerProcess('driver-too-old,group-depth-leak'), async (rank) => {
      for (let round = 0; round < 2; ++round) {
        await rank.call('open');
        const error = await rank.failure('initAlone');
        expect(error).toMatchObject({ code: 'WC_NCCL_FAILED', details: { ncclResult: 1 } });
        expect(error.remedy).toContain('The driver is too old for the CUDA that this libnccl was built with');
        await rank.call('leave');
      }
    });
  });

  it('that is out of memory says how much was asked for, and goes on with less', async () => {
    await withPeer(new PeerProcess('out-of-memory=4194304'), async (rank) => {
      await rank.call('open');
      const error = await rank.failure('allocate', { byteLength: 8 << 20 });
      expect(error.code).toBe('WC_CUDA_OUT_OF_MEMORY');
      expect(error.text).toMatch(
        /^cuMemAlloc of 8388608 bytes failed: CUDA_ERROR_OUT_OF_MEMORY.*the device has \d+ of \d+ bytes free$/,
      );
      // Two slots: the second does not fit, and the first is given back.
      expect((await rank.failure('prepare', { byteLength: 3 << 20 })).code).toBe('WC_CUDA_OUT_OF_MEMORY');
      await rank.call('prepare', { byteLength: 2 << 20 });
      await rank.call('initAlone');
      expect(await rank.call('state')).toBe('ready');
      await rank.call('leave');
    });
  });
});
