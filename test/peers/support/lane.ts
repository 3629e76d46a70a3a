import { afterAll, beforeAll, describe, type RunnerTestSuite, test } from 'vitest';
import { reportLane } from './report.js';
import { type PythonAttempt, type PythonEnvironment, type PythonPackages, tryPython } from './venv.js';

const SYSTEM_PYTHON: PythonAttempt = { environment: { directory: '', python: 'python3' }, why: null };

const LATE: PythonAttempt = {
  environment: null,
  why: 'this run has taken its time already (WEIGHTCAST_PEERS_UNTIL); npm run test:peers takes all lanes',
};

/** Seconds of the epoch after which no lane begins: a run that installs every package anew would not end in time. */
function isLate(): boolean {
  const until = Number(process.env['WEIGHTCAST_PEERS_UNTIL'] ?? Number.POSITIVE_INFINITY);
  return Date.now() / 1000 > until;
}

const statesOf = (suite: Pick<RunnerTestSuite, 'tasks'>): readonly (string | undefined)[] =>
  suite.tasks.flatMap((task) => (task.type === 'suite' ? statesOf(task) : [task.result?.state]));

/**
 * A lane: tests against software that this project did not write, in the Python environment that holds it. A lane whose
 * packages can't be had prints `SKIPPED <lane>: <why>` and shows as skipped; it is never silent. `null` takes the python3 on PATH and
 * its standard library.
 *
 * @example
 * await lane('tcpstore', vllmPackages('0.32.0'), (python) => {
 *   test('a real client joins', async () => { await run(python.python, ['-c', '…']) });
 * });
 */
export async function lane(
  name: string,
  packages: PythonPackages | null,
  tests: (python: PythonEnvironment) => void,
): Promise<void> {
  const attempt = isLate() ? LATE : packages === null ? SYSTEM_PYTHON : await tryPython(packages);
  if (attempt.environment === null) {
    reportLane(name, 'SKIPPED', attempt.why, 0);
    describe.skip(`lane ${name} (SKIPPED: ${attempt.why})`, () => test(name, () => {}));
    return;
  }
  const environment = attempt.environment;
  describe(`lane ${name}`, () => {
    let started = 0;
    beforeAll(() => {
      started = performance.now();
    });
    // biome-ignore lint/correctness/noEmptyPattern: vitest parses the parameter and wants a pattern
    afterAll(({}, suite) => {
      const states = statesOf(suite);
      const passed = states.filter((state) => state === 'pass').length;
      const good = passed > 0 && !states.includes('fail');
      const what = `${packages?.name ?? 'python3'}: ${passed} of ${states.length} passed`;
      reportLane(name, good ? 'RAN' : 'FAILED', what, (performance.now() - started) / 1000);
    });
    tests(environment);
  });
}
