import type { Children } from './child.js';
import type { Fault, Kind } from './control.js';
import { type Scenario, withDirectory } from './scenario.js';

export interface Verdict {
  /** Null when there were fewer calls this time: threads take turns. */
  readonly hit: Kind | null;
  readonly wrong: readonly string[];
}

/** The scenario with one fault, judged. */
export async function strike(
  children: Children,
  { root, scenario, fault }: { readonly root: string; readonly scenario: Scenario; readonly fault: Fault },
): Promise<Verdict> {
  return withDirectory(root, scenario.template, async (directory) => {
    const outcome = await children.run(directory, fault, scenario.task(directory));
    const wrong = await scenario
      .judge(directory, outcome)
      .catch((error: Error) => [`judging it: ${error.message}`]);
    const { hit, killed, error } = outcome;
    if (hit === null) return { hit, wrong };
    if (fault.act.startsWith('kill') && !killed) wrong.push('it was not killed');
    if (fault.act === 'short' && error !== null) wrong.push(`a short write: ${error.code} ${error.message}`);
    if (fault.act === 'fail' && !(error === null && scenario.mayGoOn === true)) {
      wrong.push(...judgeError(fault, error));
    }
    return { hit, wrong };
  });
}

/** An error of the disk is an error of the task, by its name. */
function judgeError(
  { error }: Fault,
  thrown: { code: string | null; errnoName: string | null } | null,
): string[] {
  if (thrown === null) return ['it says that all is well'];
  const named = thrown.code === 'WC_FILE_WRITE' && thrown.errnoName === error;
  return named ? [] : [`${error} became ${thrown.code}, ${thrown.errnoName}`];
}
