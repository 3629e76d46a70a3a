/** One parser of bytes from elsewhere, as the fuzzers drive it. */
import { type ErrorCode, WeightcastError } from '../../../src/errors.js';

export interface FuzzTarget {
  readonly name: string;
  /** Valid inputs to start from. */
  seeds(): readonly Uint8Array[] | Promise<readonly Uint8Array[]>;
  /** Returns when the parser took the input or refused it as it should; throws whatever else. */
  run(input: Uint8Array): void | Promise<void>;
}

const places = new Map<string, number>();

/** Counts a place as the loader counts branches of src/: for what is parsed by code that it does not see. */
export function reached(place: string): void {
  const coverage = globalThis.weightcastCoverage;
  if (coverage === undefined) return;
  const known = places.get(place);
  if (known === undefined && coverage.size === coverage.hits.length) return;
  const index = known ?? coverage.size++;
  places.set(place, index);
  coverage.hits[index]!++;
}

/** What the parser gave, or null when it refused with one of these codes. @throws any other error */
export function valueOrRefusal<T>(parse: () => T, ...codes: readonly ErrorCode[]): T | null {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof WeightcastError) || !codes.includes(error.code)) throw error;
    if (error.message.length > 300_000) throw new Error(`a message of ${error.message.length} characters`);
    return null;
  }
}

/** Runs work that is cut into steps to its end. */
export function finish<T>(steps: Generator<void, T, void>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

export function expectTrue(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

export const text = (value: string): Uint8Array => new TextEncoder().encode(value);
