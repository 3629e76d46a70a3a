import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, tail } from '../../peers/support/process.js';

export type Sanitizer = 'address' | 'thread';

const suppressions = fileURLToPath(new URL('./races.txt', import.meta.url));
const root = fileURLToPath(new URL('../../../', import.meta.url));
const BUILD_TIMEOUT_MS = 1_800_000;

/** What each is compiled with, as .ci/run compiles the C++ tests, whose folder is shared; and what must be loaded before Node. */
const kinds = {
  address: { sanitize: 'address,undefined', preload: ['libasan.so', 'libubsan.so'] },
  thread: { sanitize: 'thread', preload: ['libtsan.so'] },
} as const;

async function checked(command: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, { cwd: root, timeoutMs: BUILD_TIMEOUT_MS });
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}:\n${tail(stdout, 30)}\n${tail(stderr, 10)}`);
  return stdout.trim();
}

/** The addon and the emulated libraries under a sanitizer; every process that runs with `env` writes what it finds into one folder. */
export interface Sanitized {
  readonly env: Readonly<Record<string, string>>;
  /**
   * Like `env`, and the end of the process looks for leaks too. Node 20 leaks nothing when it ends by itself, and 20 KiB of its own at
   * process.exit; nothing is suppressed, since a suppression of Node's frames would hide all that the addon allocates for JavaScript.
   */
  readonly leakEnv: Readonly<Record<string, string>>;
  /** What was found since the last call, in all processes. */
  takeReports(): Promise<string>;
}

/**
 * V8 and Node, which are not instrumented, look as if they raced with themselves. A report is ours when one of its two accesses was made by
 * the addon or the emulation, below whatever of the C and C++ libraries they called; to suppress Node's functions by name would hide all
 * that JavaScript calls. libuv closes its descriptors by a system call of its own, which nobody sees: who gets their numbers next does not race.
 */
function racesOfOurs(text: string): string {
  const below = /\((?:libtsan|libc|libstdc\+\+|libgcc_s|ld-linux-[\w-]+)\.so[.\d]*\+/;
  const ours = /\((?:weightcast\.node|libcuda\.so\.1|libnccl\.so\.2)\+/;
  const accessor = (access: string): string =>
    access.split('\n').find((line) => /^ {4}#/.test(line) && !below.test(line)) ?? '';
  const reusedDescriptor = /^ {2}Location is file descriptor \d+ created by .*\n {4}#0 .*\n {4}#1 uv_/m;
  const isOurs = (report: string): boolean => {
    if (reusedDescriptor.test(report)) return false;
    const accesses = report.split(/^ {2}(?:Location|Thread|Mutex|As if)/m)[0]!.split(/^ {2}(?=\S)/m);
    return accesses.some((access) => ours.test(accessor(access)));
  };
  // When the sanitizer itself gives up, or the process crashes under it, that ends with the exit code 0 that its reports have here.
  const gaveUp = (report: string): boolean =>
    /(?:FATAL|ERROR): ThreadSanitizer|ThreadSanitizer:\s*DEADLYSIGNAL|CHECK failed/.test(report);
  return text
    .split(/^={18}$/m)
    .filter((report) => isOurs(report) || gaveUp(report))
    .join('\n');
}

/** Builds them. @throws Error with the end of what the compiler said */
export async function buildSanitized(sanitizer: Sanitizer): Promise<Sanitized> {
  const { sanitize, preload } = kinds[sanitizer];
  const folder = join(root, `build-sanitize-${sanitizer}`);
  const options = [
    '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
    '-DWEIGHTCAST_TESTS=ON',
    `-DWEIGHTCAST_SANITIZE=${sanitize}`,
  ];
  await checked('cmake', ['-S', 'native', '-B', folder, '-G', 'Ninja', ...options]);
  const targets = ['weightcast', 'emulated_cuda', 'emulated_nccl'];
  await checked('cmake', ['--build', folder, '-j', String(availableParallelism()), '--target', ...targets]);
  const libraries = await Promise.all(preload.map((name) => checked('gcc', [`-print-file-name=${name}`])));
  const reports = await mkdtemp(join(tmpdir(), 'weightcast-sanitizer-'));
  const log = `log_path=${join(reports, 'report')}`;
  const env = {
    WEIGHTCAST_ADDON: join(folder, 'weightcast.node'),
    WEIGHTCAST_TEST_CUDA: join(folder, 'emulator/libcuda.so.1'),
    WEIGHTCAST_TEST_NCCL: join(folder, 'emulator/libnccl.so.2'),
    LD_PRELOAD: libraries.join(' '),
    ASAN_OPTIONS: `${log}:exitcode=66:detect_leaks=0`,
    UBSAN_OPTIONS: `${log}:print_stacktrace=1`,
    // From the address of a thread's block of a loaded library ThreadSanitizer guesses where its size stands, by a rule of an older glibc: now and then
    // it takes other bytes for it, clears "-4096 bytes" and gives up (2 of 90 endings of a Worker; 0 of 90 without that).
    TSAN_OPTIONS: `${log}:exitcode=0:second_deadlock_stack=1:intercept_tls_get_addr=0:suppressions=${suppressions}`,
  };
  return {
    env,
    leakEnv: {
      ...env,
      ASAN_OPTIONS: `${log}:exitcode=66:detect_leaks=1`,
    },
    async takeReports() {
      const files = (await readdir(reports)).map((file) => join(reports, file));
      const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')));
      await Promise.all(files.map((file) => rm(file)));
      return sanitizer === 'thread' ? racesOfOurs(texts.join('\n')) : texts.join('\n');
    },
  };
}
