// The system refuses another thread: every call that needs one rejects, holds nothing, and works again when threads are to be had.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeSync } from 'node:fs';
import { addon, expectUsable, open } from './addon.mjs';
import { hashJob, MIB, writeJob } from './states.mjs';

/** A thread's stack needs address space, also for root, whom a limit on processes does not bind. */
const limitAddressSpace = (bytes) =>
  execFileSync('prlimit', ['--pid', String(process.pid), `--as=${bytes}:`], { stdio: 'inherit' });

const runtime = await open();
const used = Number(/^VmSize:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
writeSync(1, 'now\n');
limitAddressSpace(used + 6 * MIB); // less than a stack, and enough for what is not one

const codeOf = (attempt) =>
  attempt().then(
    () => 'none',
    (error) => error.code,
  );
// Stacks of threads that have ended are kept for the next ones: communicators take them all.
const communicators = [];
const another = async () => communicators.push(await runtime.communicator(0));
while ((await codeOf(another)) === 'none');
const attempts = {
  open,
  memory: () => runtime.memory(0),
  uniqueId: () => runtime.uniqueId(),
  communicator: () => runtime.communicator(0),
  sha256: () => addon.sha256(hashJob(MIB), null).result,
  write: () => addon.write(writeJob('/nowhere/target', MIB), null).result,
};
for (const [name, attempt] of Object.entries(attempts)) writeSync(1, `${name}: ${await codeOf(attempt)}\n`);

limitAddressSpace('unlimited');
await expectUsable();
process.exitCode = 6;
