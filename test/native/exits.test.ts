import { describe, expect, it } from 'vitest';
import { type Ending, runScenario } from './support.js';

function expectEnding(ending: Ending, code: number): void {
  expect({ code: ending.code, signal: ending.signal, output: ending.output }).toMatchObject({
    code,
    signal: null,
  });
  expect(ending.elapsedMs).toBeLessThan(5_000);
}

describe('a process or a Worker that ends in the middle of something', () => {
  for (const what of ['init', 'broadcast', 'hash']) {
    it(`exits at once when process.exit is called during a ${what}`, async () => {
      expectEnding(await runScenario(`exit-${what}`), 7);
    });
    it(`exits with Node's code 1 on an uncaught error during a ${what}`, async () => {
      const ending = await runScenario(`throw-${what}`);
      expectEnding(ending, 1);
      expect(ending.output).toContain('thrown on purpose');
    });
    it(`survives a Worker that is terminated during a ${what}`, async () => {
      expectEnding(await runScenario(`terminate-${what}`), 5);
    });
    it(`survives a Worker that exits during a ${what}`, async () => {
      expectEnding(await runScenario(`workerExit-${what}`), 4);
    });
  }

  it('closes a communicator that was collected as garbage', async () => {
    expectEnding(await runScenario('collect'), 6);
  });

  it('ends by itself when a communicator is open and nothing is pending', async () => {
    expectEnding(await runScenario('forget'), 3);
  });
});
