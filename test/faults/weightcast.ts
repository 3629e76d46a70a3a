/** weightcast itself, in this process: one session for all pushes of a run. */
import { connectFleet, type FleetSession, UpdateError } from '../../src/update/index.js';
import type { FleetOptions, UpdateReport } from '../../src/update/types.js';
import type { Claim, Coordinator, CoordinatorSetup, Outcome, PushJob, PushSettings } from './coordinator.js';

export function weightcast({ engines, names, settings, source = null }: CoordinatorSetup): Coordinator {
  const options = optionsOf(names, settings);
  let session: FleetSession | null = null;
  return {
    name: 'weightcast',
    push: async (job: PushJob) => {
      try {
        session ??= await (source?.connect(options) ?? connectFleet(options));
        const { checkpoint, weightVersion, signal } = job;
        return outcomeOf(await session.update(checkpoint, { version: weightVersion, signal }));
      } catch (error) {
        if (error instanceof UpdateError) return outcomeOf(error.report);
        return refusal(engines, error);
      }
    },
    settled: async () => {
      if (source !== null) (await session?.pool?.hold())?.();
    },
    close: async () => {
      await session?.close();
    },
  };
}

/** @param engines as `--engine` takes them */
export function optionsOf(engines: readonly string[], settings: PushSettings): FleetOptions {
  const { transport, fallback, recover, verify, pauseMode, clearCache, packed, timeouts } = settings;
  return {
    engines,
    transport,
    fallback,
    ...(recover === null ? {} : { recover }),
    verify,
    pauseMode,
    clearCache,
    packed,
    packedBufferBytes: settings.packedBufferBytes,
    stateDir: settings.stateDir,
    timeouts,
    guardian: settings.guardian ?? false,
    emulate: true,
  };
}

const CLAIMS: Readonly<Record<UpdateReport['engines'][number]['state'], Claim>> = {
  'serving-new': 'new',
  'serving-old': 'old',
  quarantined: 'excluded',
  paused: 'excluded',
  receiving: 'excluded',
  received: 'excluded',
  verified: 'excluded',
  unknown: 'unknown',
};

/** A report in the words of the simulator. */
export function outcomeOf(report: UpdateReport): Outcome {
  return {
    ok: report.outcome === 'updated',
    claims: new Map(report.engines.map(({ url, state }) => [url, CLAIMS[state]])),
    error: report.error,
    report,
  };
}

/** Without a report engines were asked for nothing but what they are. */
export function refusal(engines: readonly string[], error: unknown): Outcome {
  const { code = 'UNKNOWN', message = String(error) } = error as { code?: string; message?: string };
  return {
    ok: false,
    claims: new Map(engines.map((url) => [url, 'untouched' as const])),
    error: { code, message },
    report: null,
  };
}
