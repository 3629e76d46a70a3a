/** What loader.mjs counts. */
export interface Coverage {
  readonly hits: Uint8Array;
  /** Counters in use. */
  size: number;
  /** String constants of the product. */
  readonly words: readonly string[];
}

declare global {
  var weightcastCoverage: Coverage | undefined;
}
