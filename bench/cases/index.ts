/** Every case, by name; a module is loaded only in the process that runs it. */
import type { BenchCase } from '../case.js';

export const cases: Readonly<Record<string, () => Promise<BenchCase>>> = {
  sha256: async () => (await import('./sha256.js')).sha256,
};
