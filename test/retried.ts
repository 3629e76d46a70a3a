/** Says what was wrong with tests that passed at a second try: vitest tells only that there was one. */
import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** Prints a line for each error of a try before the last; `.ci/run` gathers them. */
export class RetriedReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    for (const test of modules.flatMap((module) => [...module.children.allTests('passed')])) {
      for (const line of earlierErrors(test)) process.stderr.write(`\n  an earlier try of ${line}\n`);
    }
  }
}

function earlierErrors(test: TestCase): string[] {
  const { errors } = test.result();
  return (errors ?? []).map(({ message, stacks }) => {
    const [at] = stacks ?? [];
    const where = at === undefined ? '' : `:${at.line}`;
    return `${test.module.relativeModuleId}${where} ${test.fullName}: ${message.replaceAll(/\s+/g, ' ').slice(0, 400)}`;
  });
}
