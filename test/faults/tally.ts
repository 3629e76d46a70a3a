/** What was run, and what came of it. */
import { KIND_NAMES, KINDS, PAIRS, PHASES, pairName } from './catalogue.js';
import type { StepFacts } from './facts.js';
import { type Violation, wasUndisturbed } from './judge.js';

export interface RunResult {
  readonly seed: number;
  readonly facts: readonly StepFacts[];
  readonly violations: readonly { readonly step: number; readonly violation: Violation }[];
  /** What went wrong in the simulator itself. */
  readonly error: unknown;
}

export class Tally {
  runs = 0;
  pushes = 0;
  readonly failed: RunResult[] = [];
  readonly #planned = new Map<string, number>();
  readonly #struck = new Map<string, number>();
  readonly #outcomes = new Map<string, number>();
  #violations = 0;
  #unjudged = 0;

  add(result: RunResult): void {
    this.runs += 1;
    this.#violations += result.violations.length;
    if (result.violations.length > 0 || result.error !== null) this.failed.push(result);
    for (const facts of result.facts) {
      const { step, struck, outcome, healing } = facts;
      this.pushes += 1;
      for (const [index, fault] of step.faults.entries()) {
        count(this.#planned, pairName(fault));
        if ((struck[index] ?? 0) > 0) count(this.#struck, pairName(fault));
      }
      if (healing && !wasUndisturbed(facts)) this.#unjudged += 1;
      if (!healing) count(this.#outcomes, outcome?.report?.outcome ?? outcome?.error?.code ?? 'killed');
    }
  }

  get violations(): number {
    return this.#violations;
  }

  /** A row a kind, a column a phase: how often a fault struck; '·' where it can't. */
  table(): string {
    const width = Math.max(...KIND_NAMES.map((kind) => kind.length));
    const head = [''.padEnd(width), ...PHASES.map((phase) => phase.padStart(9))].join(' ');
    const rows = KIND_NAMES.map((kind) => {
      const cells = PHASES.map((phase) => {
        const possible = PAIRS.some((pair) => pair.kind === kind && pair.phase === phase);
        return (possible ? String(this.#struck.get(pairName({ kind, phase })) ?? 0) : '·').padStart(9);
      });
      const entry = KINDS[kind];
      const why = 'why' in entry ? `   ${entry.why}` : '';
      return [kind.padEnd(width), ...cells].join(' ') + why;
    });
    return [head, ...rows].join('\n');
  }

  outcomes(): string {
    const outcomes = [...this.#outcomes].map(([outcome, times]) => `${outcome} ${times}`).join(', ');
    const unjudged = `${this.#unjudged} of the pushes after them that had to heal met a machine that stood still`;
    return this.#unjudged === 0 ? outcomes : `${outcomes}; ${unjudged}`;
  }

  summary(): string {
    const kinds = new Set([...this.#struck.keys()].map((name) => name.split('/')[0]));
    const phases = new Set([...this.#struck.keys()].map((name) => name.split('/')[1]));
    const pairs = this.#struck.size;
    return (
      `${this.runs} runs, ${this.pushes} pushes, ${kinds.size} kinds, ${phases.size} phases, ` +
      `${pairs} of ${PAIRS.length} pairs struck, ${this.#violations} violations`
    );
  }
}

function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}
