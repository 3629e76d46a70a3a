/** Names the tests that never ended: vitest says only that a worker exited, not which file it ran. */
import { appendFileSync } from 'node:fs';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';

/**
 * Prints every file whose process died under it. Where nothing else was wrong, their paths go into the file that WEIGHTCAST_CRASHED_FILE names, a line
 * each, so that `.ci/run` can look at them again.
 */
export class UnfinishedReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const died = modules.filter(
      (module) => ['pending', 'queued'].includes(module.state()) || unended(module).length > 0,
    );
    for (const module of died) {
      const names = unended(module).map((test) => `\n  did not end: ${test.fullName}`);
      process.stderr.write(`\nthe process of ${module.relativeModuleId} died${names.join('')}\n`);
    }
    const list = process.env['WEIGHTCAST_CRASHED_FILE'];
    const onlyThey =
      errors.length === died.length && modules.every((module) => module.ok() || died.includes(module));
    if (list !== undefined && onlyThey) {
      appendFileSync(list, died.map((module) => `${module.relativeModuleId}\n`).join(''));
    }
  }
}

function unended(module: TestModule) {
  return [...module.children.allTests()].filter((test) => test.result().state === 'pending');
}
