import { expectEnding, runScenario, type ScenarioOptions } from './ending.js';

/** What the addon is doing (scenario/states.mjs), and in how many broadcasts the others of its group, if it has one, expect its bytes. */
export const states = {
  'idle runtime': { name: 'idle', frames: null },
  'device buffers alive': { name: 'buffers', frames: null },
  'init with a missing peer': { name: 'init', frames: null },
  'communicator ready': { name: 'ready', frames: 'one' },
  'broadcast whose receiver stalls': { name: 'broadcast', frames: 'one' },
  'prepared transfer': { name: 'prepared', frames: 'many' },
  'running transfer': { name: 'transfer', frames: 'many' },
  'sha256 job': { name: 'sha256', frames: null },
  'write job': { name: 'write', frames: null },
  'write job from a device that is busy': { name: 'writeDevice', frames: 'one' },
} as const;

/** How its process ends (scenario/end.mjs). A Worker's process ends by itself after it, with 40 and the Worker's code. */
export const endings = {
  'natural end': { args: ['main', 'natural'], code: 0, signal: null, says: /^$/ },
  'process.exit': { args: ['main', 'exit'], code: 7, signal: null, says: /^$/ },
  'uncaught error': { args: ['main', 'throw'], code: 1, signal: null, says: /Error: thrown on purpose/ },
  'unhandled rejection': {
    args: ['main', 'reject'],
    code: 1,
    signal: null,
    says: /Error: rejected on purpose/,
  },
  SIGTERM: { args: ['main', 'hold'], code: null, signal: 'SIGTERM', says: /^$/ },
  'natural end of a Worker': { args: ['worker', 'natural'], code: 40, signal: null, says: /^$/ },
  'worker.terminate()': { args: ['worker', 'hold'], code: 41, signal: null, says: /^$/ },
  'process.exit in a Worker': { args: ['worker', 'exit'], code: 47, signal: null, says: /^$/ },
  'uncaught error in a Worker': { args: ['worker', 'throw'], code: 41, signal: null, says: /^$/ },
} as const;

export type StateName = keyof typeof states;
export type EndingName = keyof typeof endings;

/** Brings a process into a state, ends it, and checks how it ended. */
export async function expectEnds(
  state: StateName,
  ending: EndingName,
  options: ScenarioOptions,
): Promise<void> {
  const expected = endings[ending];
  const ended = await runScenario('end.mjs', [states[state].name, ...expected.args], {
    ...options,
    onNow: (kill) => {
      if (expected.signal !== null) kill(expected.signal);
      options.onNow?.(kill);
    },
  });
  expectEnding(ended, expected);
}
