import type { Attempt, Carrier } from '../attempt.js';
import type { Delta } from './prepare.js';

/**
 * Carries the delta to the engines that hold its base. The others are quarantined once anybody has left the old version, and healing then loads them from disk;
 * as long as nobody has, they are as untouched as the rest.
 */
export function deltaCarrier(inner: Carrier, { engines, off }: Pick<Delta, 'engines' | 'off'>): Carrier {
  return {
    name: inner.name,
    transfer: async (attempt: Attempt) => {
      const report = await inner.transfer({ ...attempt, engines });
      const { ledger } = attempt;
      if (engines.some(({ id }) => !ledger.is(id, 'paused')))
        for (const [id, why] of off) ledger.set(id, 'quarantined', `the delta is not for it: ${why}`);
      return report;
    },
    close: () => inner.close(),
  };
}
