import { count, paint, printable } from '../format.js';

/** ok: as it should be · note: worth knowing · warning: works, but · wrong: a push with these options will fail. */
export type Verdict = 'ok' | 'note' | 'warning' | 'wrong';

export interface Finding {
  readonly verdict: Verdict;
  /** 'node', 'addon', 'nccl' … or an engine's address. */
  readonly about: string;
  readonly text: string;
  /** What to do; null when nothing is to be done. */
  readonly remedy: string | null;
}

export function finding(
  verdict: Verdict,
  about: string,
  text: string,
  remedy: string | null = null,
): Finding {
  return { verdict, about, text, remedy };
}

/** One line for each finding, and what to do below it. */
export function renderFindings(findings: readonly Finding[], color: boolean): string {
  const styles = { ok: 'green', note: 'bold', warning: 'yellow', wrong: 'red' } as const;
  const lines = findings.flatMap(({ verdict, about, text, remedy }) => {
    const body = printable(text).replaceAll('\n', '\n         ');
    const head = `${paint(color, styles[verdict], verdict.padEnd(7))}  ${printable(about)}: ${body}`;
    return remedy === null ? [head] : [head, `         → ${printable(remedy)}`];
  });
  const wrong = findings.filter((one) => one.verdict === 'wrong').length;
  const warnings = findings.filter((one) => one.verdict === 'warning').length;
  const verdict = wrong === 0 ? 'nothing is wrong' : count(wrong, 'problem');
  lines.push(`${verdict}${warnings === 0 ? '' : `, ${count(warnings, 'warning')}`}`);
  return `${lines.join('\n')}\n`;
}
