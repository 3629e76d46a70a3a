/** Tests on a GPU run under node:test: a machine that has one has Node as a single file, and no npm. */
import { type TestContext, test } from 'node:test';
import { type Lane, openLane } from '../../bench/gpu/lane.js';

const lane = await openLane();

/** A test that runs on a GPU (or over the emulator with WEIGHTCAST_GPU_LANE=emulated), or says SKIPPED and why. */
export function onGpu(
  name: string,
  body: (lane: Lane, context: TestContext) => Promise<void>,
  {
    realOnly = null,
    timeoutMs = 120_000,
  }: { readonly realOnly?: string | null; readonly timeoutMs?: number } = {},
): void {
  const skip =
    'skipped' in lane
      ? `SKIPPED: ${lane.skipped}`
      : lane.facts.emulated && realOnly !== null
        ? `SKIPPED over the emulator: ${realOnly}`
        : false;
  test(name, { skip, timeout: timeoutMs }, async (context) => {
    if (!('skipped' in lane)) await body(lane, context);
  });
}
