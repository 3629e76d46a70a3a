/** What an attack costs the process that is attacked. */
export interface Cost {
  /** Longest time between two turns of the event loop, in ms. */
  readonly stallMs: number;
  /** Growth of the resident memory at its highest, in bytes. */
  readonly rssGrowth: number;
}

/** Runs `work` and looks at the event loop and the memory every 2 ms of it. */
export async function measured(work: () => Promise<void>): Promise<Cost> {
  const before = process.memoryUsage.rss();
  let highest = before;
  let longest = 0;
  let last = performance.now();
  let sampledAt = 0;
  const sample = (): void => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (now - sampledAt < 20) return;
    sampledAt = now;
    highest = Math.max(highest, process.memoryUsage.rss());
  };
  const timer = setInterval(sample, 2);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  sample();
  return { stallMs: longest, rssGrowth: highest - before };
}
