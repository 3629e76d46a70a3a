/** What a bench case is: it runs in a process of its own and says each number beside what it is held against. */

/** A number to hold ours against, in the unit of the figure. */
export interface Reference {
  /** What it is: 'openssl speed, 1 core', 'vLLM 0.32.0 packed producer'. */
  readonly name: string;
  readonly value: number;
}

export interface Figure {
  readonly name: string;
  /** 'GB/s', 'ms', 'MiB', '%', 's CPU', … */
  readonly unit: string;
  /** Median over the repeats. */
  readonly ours: number;
  /** (largest - smallest) / median over the repeats. */
  readonly spread?: number;
  /** What no program can beat here, measured in the same run. */
  readonly limit?: Reference;
  /** Another program that does the same work, measured in the same run, repeats interleaved with ours. */
  readonly peer?: Reference;
  /** `met` is null where nothing was promised, or where it can't be judged here (the note says why). */
  readonly goal: { readonly text: string; readonly met: boolean | null };
  readonly note?: string;
}

export interface CaseContext {
  /** Small sizes and few repeats: does it still work, not how fast is it. */
  readonly quick: boolean;
  /** A folder that is kept between runs (inputs that are costly to make); absolute. */
  readonly scratch: string;
  /** Aborted at the case's deadline and by Ctrl-C. */
  readonly signal: AbortSignal;
  /** Says what is going on, on stderr. */
  log(line: string): void;
  /** Adds the version of something that was measured to the results: version('openssl', '3.0.17'). */
  version(of: string, version: string): void;
}

export interface BenchCase {
  readonly name: string;
  /** One sentence: what is measured, against what. */
  readonly about: string;
  /** The case's process group is killed after this; 5 minutes by default. */
  readonly timeoutMs?: number;
  run(context: CaseContext): Promise<readonly Figure[]>;
}
