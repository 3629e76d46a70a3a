/**
 * A publisher in a process of its own, which kills itself or waits at one of its calls:
 *
 *     node publisher.mjs SOURCE DIRECTORY VERSION COMMIT kill|wait CALL TEXT
 *
 * CALL is a function of node:fs/promises whose path has TEXT in it, or 'progress' of the writer. It is killed once the call has
 * returned; it waits before the call until a line comes, and says so.
 */
import { once } from 'node:events';
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

const [, , source, directory, version, commit, action, call, text] = process.argv;
const die = () => process.kill(process.pid, 'SIGKILL');

if (call !== 'progress') {
  const original = fs[call];
  fs[call] = async (...args) => {
    // Of opens only those that create.
    const matches = String(args[0]).includes(text) && (call !== 'open' || args[1] === 'wx');
    if (matches && action === 'wait') {
      process.stdout.write('waiting\n');
      await once(process.stdin, 'data');
    }
    const result = await original(...args);
    if (matches && action === 'kill') die();
    return result;
  };
  syncBuiltinESMExports();
}

const { publish } = await import('../../../../dist/index.js');
const onProgress = call === 'progress' ? die : undefined;
try {
  const options = { directory, version: Number(version), commit, onProgress, shardBytes: 100_000 };
  const { path } = await publish(source, options);
  process.stdout.write(`${JSON.stringify({ path })}\n`);
} catch ({ code, message }) {
  process.stdout.write(`${JSON.stringify({ code, message })}\n`);
}
process.exit(0);
