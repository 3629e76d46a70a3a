/** A handful of runs, so that the simulator itself stays whole; thousands are `npm run test:faults`. */
import { expect, it } from 'vitest';
import type { Pair } from './catalogue.js';
import { explain } from './explain.js';
import { judge } from './judge.js';
import { expectNoReuse } from './own-faults.js';
import { planScenario } from './planner.js';
import { Pool } from './pool.js';
import { runScenario } from './runner.js';
import type { Backend } from './scenario.js';
import { Stalls } from './stalls.js';

const PAIRS: readonly (Pair & { readonly fleet?: Backend })[] = [
  { kind: 'late', phase: 'pause' },
  { kind: 'lost', phase: 'receive' },
  { kind: 'peer-raises', phase: 'receive' },
  { kind: 'truncated', phase: 'init' },
  { kind: 'engine-restarted', phase: 'pause' },
  { kind: 'coordinator-killed', phase: 'receive' },
  { kind: 'two-coordinators', phase: 'receive' },
  { kind: 'error-500', phase: 'receive', fleet: 'prime-rl' },
  { kind: 'mute', phase: 'resume', fleet: 'prime-rl' },
  { kind: 'lost', phase: 'start', fleet: 'dynamo' },
  { kind: 'ok-error', phase: 'receive', fleet: 'dynamo' },
];

it('runs a scenario of each layer, whose faults strike, and finds every invariant kept', {
  timeout: 180_000,
}, async () => {
  expectNoReuse();
  const pool = await Pool.open();
  const stalls = new Stalls();
  try {
    for (const [index, pair] of PAIRS.entries()) {
      const { fleet = 'vllm' } = pair;
      const planned = planScenario(index + 1, PAIRS, [fleet]);
      // Long deadlines: a busy machine shall not strike before the fault does.
      const timeouts = {
        ...planned.timeouts,
        probe: 10_000,
        rendezvous: 10_000,
        checksum: 10_000,
        score: 10_000,
      };
      const scenario = {
        ...planned,
        engines: 1,
        backends: [fleet],
        workers: 1,
        layers: 2 as const,
        vllm: '0.32.0' as const,
        timeouts,
      };
      const steps = scenario.steps.map((step) => ({
        ...step,
        faults: step.faults
          .filter(({ kind }) => kind === pair.kind)
          .map((fault) => ({ ...fault, engine: 0 })),
      }));
      const facts = await runScenario({ ...scenario, steps }, { pool, stalls });
      const violations = facts.flatMap((step) =>
        judge(step).map((violation) => ({ step: step.index, violation })),
      );
      const words = explain(scenario, { seed: scenario.seed, facts, violations, error: null }, '');
      expect(violations, words).toEqual([]);
      expect(
        facts.flatMap(({ struck }) => struck).some((times) => times > 0),
        words,
      ).toBe(true);
    }
  } finally {
    stalls.close();
    await pool.close();
  }
});
