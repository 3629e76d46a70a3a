import { expect, it } from 'vitest';
import { KINDS, PAIRS, pairName } from './catalogue.js';
import { canStrike, isThreeStep } from './dialect.js';
import { planScenario } from './planner.js';

const seeds = Array.from({ length: 3 * PAIRS.length }, (_, index) => index + 1);

it('plans the same run for a seed each time, and another for another seed', () => {
  expect(planScenario(7)).toEqual(planScenario(7));
  expect(planScenario(7)).not.toEqual(planScenario(7 + PAIRS.length));
});

it('deals every kind in every phase that it can strike in, three times in three rounds', () => {
  const dealt = new Map<string, number>();
  for (const seed of seeds) {
    const first = planScenario(seed)
      .steps.flatMap(({ faults }) => faults)
      .at(0);
    if (first !== undefined) dealt.set(pairName(first), (dealt.get(pairName(first)) ?? 0) + 1);
  }
  expect([...dealt.keys()].sort()).toEqual(PAIRS.map(pairName).sort());
  expect(new Set(dealt.values())).toEqual(new Set([3]));
});

it('plans fleets of each kind and of several, and those of stock vLLM as if there were no other', () => {
  const kinds = seeds.map((seed) => [...new Set(planScenario(seed).backends)].sort().join(' '));
  expect([...new Set(kinds)]).toEqual(
    expect.arrayContaining(['vllm', 'prime-rl', 'dynamo', 'dynamo vllm', 'prime-rl vllm']),
  );
  const seed = seeds.find((_, index) => kinds[index] === 'vllm') ?? 1;
  expect(planScenario(seed)).toEqual(planScenario(seed, PAIRS, ['vllm']));
});

it('plans only what can be: faults hit engines that are there, NCCL faults an NCCL push, a checker where it is asked for', () => {
  for (const seed of seeds) {
    const scenario = planScenario(seed);
    for (const { faults } of scenario.steps) {
      for (const { engine, kind, phase } of faults) {
        expect(engine).toBeLessThan(scenario.engines);
        const backend = scenario.backends[engine];
        if (backend === undefined) throw new Error('an engine without a kind');
        expect(canStrike({ kind, phase }, backend)).toBe(true);
        if (KINDS[kind].layer === 'nccl') expect(scenario.transport).toBe('nccl');
        if (phase === 'start' || phase === 'finish') expect(isThreeStep(backend, scenario)).toBe(true);
        if (phase === 'reset') expect(scenario.clearCache).toBe(false);
      }
    }
    expect(scenario.backends).toHaveLength(scenario.engines);
    if (scenario.verify === 'digest') {
      expect(scenario.vllm >= '0.32').toBe(true);
      expect(new Set(scenario.backends)).toEqual(new Set(['vllm']));
    }
  }
});
