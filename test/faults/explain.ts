/** A run in words: what was planned, what happened, what is wrong with it. */
import { pairName } from './catalogue.js';
import { claimOf, type StepFacts } from './facts.js';
import type { Scenario } from './scenario.js';
import type { RunResult } from './tally.js';

export function explain(scenario: Scenario, { facts, violations, error }: RunResult, replay: string): string {
  const { seed, steps: _, timeouts: __, ...shape } = scenario;
  const lines = [`seed ${seed}: ${JSON.stringify(shape)}`];
  for (const step of facts) lines.push(...explainStep(step));
  for (const { step, violation } of violations) {
    const where = violation.engine === null ? '' : ` ${violation.engine}`;
    lines.push(`  VIOLATION in push ${step}: ${violation.invariant}:${where} ${violation.message}`);
  }
  if (error !== null) lines.push(`  SIMULATOR FAILED: ${(error as Error).stack ?? String(error)}`);
  if (violations.length > 0 || error !== null) lines.push(`  replay: ${replay}`);
  return lines.join('\n');
}

function explainStep(facts: StepFacts): string[] {
  const { step, index, engines, outcome, struck, tookMs, stalledMs, healing } = facts;
  const lines = [
    `  push ${index} to ${step.version}${healing ? ' (undisturbed, files allowed)' : ''}: ${Math.round(tookMs)} ms, ${Math.round(stalledMs)} stalled; ${
      outcome === null ? 'killed' : outcome.ok ? 'ok' : `${outcome.error?.code}: ${outcome.error?.message}`
    }`,
  ];
  for (const [at, fault] of step.faults.entries()) {
    const { kind, phase, ...how } = fault;
    lines.push(`    fault ${pairName({ kind, phase })} struck ${struck[at]} times ${JSON.stringify(how)}`);
  }
  const phases = outcome?.report?.phases.map(({ phase, ms }) => `${phase} ${Math.round(ms)}`).join(', ');
  if (phases !== undefined) lines.push(`    phases (ms): ${phases}`);
  for (const engine of engines) {
    const { url, alive, stuck, state, holds, answersBy, replaced, record } = engine;
    const is = !alive
      ? 'dead'
      : stuck
        ? 'stuck'
        : state?.paused != null
          ? `paused ${state.paused}`
          : 'serving';
    lines.push(
      `    ${url}: claimed ${claimOf(facts, url)}; ${is}${state?.broken ? ' broken' : ''}, holds ${holds}, answers by ${answersBy}${
        replaced === null ? '' : `, ${replaced}`
      }`,
      `      its record: ${record
        .filter(({ method }) => method === 'POST')
        .map(({ path, status }) => `${path} ${status}`)
        .join(', ')}`,
    );
    const history = outcome?.report?.engines.find((item) => item.url === url)?.history;
    if (history !== undefined)
      lines.push(
        `      history: ${history
          .map(
            ({ state: name, atMs, reason }) =>
              `${name}@${Math.round(atMs)}${reason === null ? '' : ` (${reason})`}`,
          )
          .join(' → ')}`,
      );
  }
  return lines;
}
