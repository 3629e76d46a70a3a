/** The process of one case: argv is its name; the context comes, and the outcome goes, over IPC. */
import { cases } from '../cases/index.js';
import type { FromChild, ToChild } from './spawn.js';

const send = (message: FromChild): void => {
  process.send?.(message);
};

async function runCase({ name, quick, scratch }: ToChild): Promise<void> {
  const stop = new AbortController();
  process.on('SIGTERM', () => stop.abort(new Error('the case was stopped')));
  const load = cases[name];
  if (load === undefined) throw new Error(`no case ${name}`);
  const benchCase = await load();
  send({ kind: 'about', about: benchCase.about, timeoutMs: benchCase.timeoutMs ?? null });
  const figures = await benchCase.run({
    quick,
    scratch,
    signal: stop.signal,
    log: (line) => process.stderr.write(`  ${name}: ${line}\n`),
    version: (of, version) => send({ kind: 'version', of, version }),
  });
  send({ kind: 'figures', figures });
}

process.once('message', (message: ToChild) => {
  runCase(message)
    .catch((error: unknown) => {
      send({
        kind: 'failure',
        message: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
    })
    .finally(() => process.disconnect());
});
