import type { UpdateReport } from '#weightcast/index.js';
import type { PauseTimes } from '../pause/bare.js';

/** The times of an update, from its report: what its bookkeeping between two requests takes counts, as engines are paused meanwhile. */
export function timesOf({ engines, phases, pauseMs }: UpdateReport): PauseTimes {
  const at = (state: string) =>
    engines.map(({ id, history }) => {
      const change = history.find((entry) => entry.state === state);
      if (change === undefined) throw new Error(`${id} was never ${state}`);
      return change.atMs;
    });
  const served = at('serving-new');
  const asked = engines.map(
    ({ pausedMs }, index) => (served[index] ?? Number.NaN) - (pausedMs ?? Number.NaN),
  );
  const resume = phases.findIndex(({ phase }) => phase === 'resume');
  if (resume < 0) throw new Error('nobody was resumed');
  const resumeAtMs = phases.slice(0, resume).reduce((sum, { ms }) => sum + ms, 0);
  return {
    pause: Math.max(...at('paused')) - Math.min(...asked),
    resume: Math.max(...served) - resumeAtMs,
    whole: pauseMs ?? Number.NaN,
  };
}
