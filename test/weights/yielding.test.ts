import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { runInSlices, type Steps } from '../../src/weights/yielding.js';

/** Work of so many steps of a millisecond each. */
function* steps(count: number, onStep: () => void): Steps<string> {
  for (let done = 0; done < count; done += 1) {
    const until = performance.now() + 1;
    while (performance.now() < until);
    onStep();
    yield;
  }
  return 'done';
}

/** Runs it, and counts the steps that fell into each turn of the event loop. */
async function stepsInEachTurn(work: (onStep: () => void) => Promise<unknown>): Promise<number[]> {
  const turns: number[] = [0];
  let running = true;
  const counting = (async () => {
    while (running) {
      await nextTurn();
      turns.push(0);
    }
  })();
  await work(() => {
    turns.push((turns.pop() as number) + 1);
  });
  running = false;
  await counting;
  return turns;
}

test('long work is cut into slices of a few milliseconds', async () => {
  const turns = await stepsInEachTurn((onStep) => runInSlices(steps(20, onStep), null));
  expect(Math.max(...turns)).toBeLessThanOrEqual(5);
});

test('short works one after the other share the turn', async () => {
  const turns = await stepsInEachTurn(async (onStep) => {
    for (let i = 0; i < 10; i += 1) expect(await runInSlices(steps(2, onStep), null)).toBe('done');
  });
  expect(Math.max(...turns)).toBeLessThanOrEqual(5);
});

test('works side by side share the turn, and all of them go on', async () => {
  const turns = await stepsInEachTurn((onStep) =>
    Promise.all(Array.from({ length: 4 }, () => runInSlices(steps(5, onStep), null))),
  );
  // The first takes what there is, each of the others a step.
  expect(Math.max(...turns)).toBeLessThanOrEqual(8);
});

test('an aborted signal ends it with its reason', async () => {
  const controller = new AbortController();
  const reason = new Error('enough');
  const running = runInSlices(
    steps(1_000_000, () => controller.abort(reason)),
    controller.signal,
  );
  await expect(running).rejects.toBe(reason);
});
