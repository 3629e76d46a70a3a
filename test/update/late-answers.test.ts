import { expect, it } from 'vitest';
import type { EngineLink } from '../../src/fleet/engine.js';
import type { Attempt } from '../../src/update/attempt.js';
import { rememberLateEngines, settled } from '../../src/update/late-answers.js';
import { Ledger } from '../../src/update/ledger.js';

const engine = { id: 'e', url: 'http://e', backend: 'vllm' } as EngineLink;

function attemptOf(workers: number): Attempt {
  const ledger = new Ledger([engine], () => undefined);
  const facts = new Map([
    ['e', { workers, paused: true, model: null, models: [], processStart: null, weightVersion: null }],
  ]);
  return { ledger, facts, late: new Set<string>(), engines: [engine] } as unknown as Attempt;
}

/** Answers as a vLLM executor with one failed call behind it: an old failure first, then what the call before returned. */
function lateExecutor(): () => Promise<string> {
  const queue = ['failure of a dead push', 'answer 1', 'answer 2', 'answer 3'];
  return async () => {
    const answer = queue.shift() ?? 'nothing';
    if (answer.startsWith('failure')) throw new Error(answer);
    return answer;
  };
}

it('takes the first answer of an engine whose workers never failed', async () => {
  const attempt = attemptOf(2);
  attempt.ledger.set('e', 'serving-old');
  await expect(settled(attempt, engine, 1_000, lateExecutor())).rejects.toThrow('failure of a dead push');
});

it('asks an engine of several workers again after a failure, and takes the last answer', async () => {
  const attempt = attemptOf(2);
  attempt.ledger.set('e', 'quarantined', 'found paused');
  expect(await settled(attempt, engine, 1_000, lateExecutor())).toBe('answer 2');
});

it('asks an engine of one worker once: its answers are never late', async () => {
  const attempt = attemptOf(1);
  attempt.ledger.set('e', 'quarantined', 'found paused');
  await expect(settled(attempt, engine, 1_000, lateExecutor())).rejects.toThrow('failure of a dead push');
});

it('gives all the asking together one deadline', async () => {
  const attempt = attemptOf(2);
  attempt.ledger.set('e', 'quarantined', 'found paused');
  const given: number[] = [];
  const slow = async (leftMs: number): Promise<void> => {
    given.push(leftMs);
    await new Promise((resolve) => setTimeout(resolve, 30));
  };
  await settled(attempt, engine, 60_000, slow);
  const [first = 0, second = 0, third = 0] = given;
  expect(given).toHaveLength(3);
  expect(first).toBeLessThanOrEqual(60_000);
  expect(second).toBeLessThan(first);
  expect(third).toBeLessThan(second);
});

it('remembers late engines for the session and says so', async () => {
  const attempt = attemptOf(2);
  attempt.ledger.set('e', 'quarantined', 'found paused');
  rememberLateEngines(attempt);
  expect([...attempt.late]).toEqual(['e']);
  expect(attempt.ledger.notes.join()).toContain('until it is restarted');
});
