import type { FuzzTarget } from '../targets/target.js';
import type { Coverage } from './coverage.js';
import { COMMON_WORDS, mutate } from './mutate.js';
import type { Random } from './random.js';

/** An input that took this long, and does so again, is a failure: 16 KiB are parsed within milliseconds. */
const SLOW_MS = 500;
/** Time to look for a smaller input that fails alike. */
const SMALLER_MS = 5_000;
const MOST_RSS = 1536 * 1024 * 1024;

export interface Failure {
  readonly input: Uint8Array;
  readonly error: unknown;
}

/** Set by the loader, without which nothing is counted. */
function coverage(): Coverage {
  if (globalThis.weightcastCoverage === undefined) throw new Error('run it with the loader');
  return globalThis.weightcastCoverage;
}

/** Feeds one target, and keeps what reaches something new. */
export class Fuzzer {
  readonly #target: FuzzTarget;
  readonly #random: Random;
  readonly #begin: (input: Uint8Array) => void;
  /** Bits of how often each counter was hit, in powers of two, over all runs. */
  readonly #seen = new Uint8Array(coverage().hits.length);
  readonly #kept: Uint8Array[] = [];
  readonly #seeds: readonly Uint8Array[];
  readonly #words = [...COMMON_WORDS, ...coverage().words.map((word) => Buffer.from(word))];
  runs = 0;

  constructor(
    target: FuzzTarget,
    seeds: readonly Uint8Array[],
    random: Random,
    begin: (input: Uint8Array) => void,
  ) {
    this.#target = target;
    this.#seeds = seeds;
    this.#random = random;
    this.#begin = begin;
  }

  get kept(): readonly Uint8Array[] {
    return this.#kept;
  }

  /** Branches reached so far. */
  get branches(): number {
    let count = 0;
    for (const bits of this.#seen) if (bits !== 0) count++;
    return count;
  }

  /** Runs one input; null when all is well. */
  async try(input: Uint8Array): Promise<Failure | null> {
    const { hits } = coverage();
    hits.fill(0, 0, coverage().size);
    this.#begin(input);
    this.runs++;
    const began = performance.now();
    try {
      await this.#target.run(input);
    } catch (error) {
      return { input, error };
    }
    if (performance.now() - began > SLOW_MS && (await this.#isSlow(input))) {
      return { input, error: new Error(`it takes more than ${SLOW_MS} ms`) };
    }
    if (this.runs % 512 === 0 && process.memoryUsage.rss() > MOST_RSS) {
      return { input, error: new Error(`more than ${MOST_RSS} bytes of memory are held`) };
    }
    if (this.#isNew(hits, coverage().size)) this.#kept.push(input);
    return null;
  }

  /** Mutates what was kept until the deadline of performance.now(). */
  async until(deadline: number): Promise<Failure | null> {
    while (performance.now() < deadline) {
      const parent = this.#parent();
      const mutant = mutate(parent, this.#random, { words: this.#words, others: this.#kept });
      const failure = await this.try(mutant);
      if (failure !== null) return this.#smaller(failure);
    }
    return null;
  }

  /** A valid input, one that was found lately (it is least explored), or any: of the deepest checks most mutants of mutants fall short. */
  #parent(): Uint8Array {
    const count = this.#kept.length;
    const kind = this.#random.below(5);
    if (kind < 2 && this.#seeds.length > 0) return this.#random.pick(this.#seeds);
    const from = kind === 2 ? Math.max(0, count - 16) : 0;
    return this.#kept[from + this.#random.below(count - from)] ?? new Uint8Array(0);
  }

  #isNew(hits: Uint8Array, size: number): boolean {
    let isNew = false;
    for (let i = 0; i < size; i++) {
      const count = hits[i]!;
      if (count === 0) continue;
      const bit = 1 << (31 - Math.clz32(count));
      if ((this.#seen[i]! & bit) !== 0) continue;
      this.#seen[i]! |= bit;
      isNew = true;
    }
    return isNew;
  }

  /** A busy machine is slow once, a bad input always. */
  async #isSlow(input: Uint8Array): Promise<boolean> {
    for (let i = 0; i < 3; i++) {
      const began = performance.now();
      await this.#target.run(input);
      if (performance.now() - began <= SLOW_MS) return false;
    }
    return true;
  }

  /** Leaves out stretches while the failure stays the same. */
  async #smaller(failure: Failure): Promise<Failure> {
    const deadline = performance.now() + SMALLER_MS;
    let smallest = failure;
    for (let length = failure.input.length >> 1; length > 0; length >>= 1) {
      for (let at = 0; at < smallest.input.length && performance.now() < deadline; ) {
        const { input } = smallest;
        const shorter = Buffer.concat([input.subarray(0, at), input.subarray(at + length)]);
        const again = await this.try(shorter);
        if (again !== null && String(again.error) === String(failure.error)) smallest = again;
        else at += length;
      }
    }
    return smallest;
  }
}
