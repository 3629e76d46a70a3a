/** Fleets of reference prime-rl servers. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ReferenceEngine,
  type ReferencePrimeRlOptions,
  startReferencePrimeRl,
  writeTinyModel,
} from '../../src/testing/index.js';
import { connectFleet, type FleetSession } from '../../src/update/index.js';
import type { FleetOptions } from '../../src/update/types.js';

export interface PrimeRlBench {
  readonly engines: readonly ReferenceEngine[];
  /** Checkpoints of the same shape: the engines start with `a`. */
  readonly a: string;
  readonly b: string;
  readonly directory: string;
  connect(options?: Partial<FleetOptions>): Promise<FleetSession>;
}

type Member = Omit<ReferencePrimeRlOptions, 'model'> & {
  /** What follows its address. */
  readonly words?: string;
};

/** Runs `body` against fresh servers; everything ends with it. */
export async function withPrimeRl(
  members: readonly Member[],
  body: (bench: PrimeRlBench) => Promise<void>,
  layers = 2,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'weightcast-prime-rl-'));
  const [a, b] = [join(directory, 'a'), join(directory, 'b')];
  const sessions: FleetSession[] = [];
  await writeTinyModel(a, { seed: 1, layers });
  await writeTinyModel(b, { seed: 2, shards: 3, layers });
  const engines = await Promise.all(
    members.map(({ words: _, ...member }) =>
      startReferencePrimeRl({ workersInEngine: true, ...member, model: a }),
    ),
  );
  try {
    await body({
      engines,
      a,
      b,
      directory,
      connect: async (more = {}) => {
        const session = await connectFleet({
          engines: engines.map(
            ({ url }, index) =>
              `prime-rl=${url},workers=${members[index]?.workers ?? 1}${members[index]?.words ?? ''}`,
          ),
          emulate: true,
          packedBufferBytes: 50_000,
          stateDir: join(directory, 'state'),
          ...more,
        });
        sessions.push(session);
        return session;
      },
    });
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
    await Promise.all(engines.map((engine) => engine.close()));
    await rm(directory, { recursive: true, force: true });
  }
}

/** Paths of the requests to change something that each server got, in their order. */
export async function postsOf(engines: readonly ReferenceEngine[]): Promise<string[][]> {
  const records = await Promise.all(engines.map((engine) => engine.exchanges()));
  return records.map((record) =>
    record
      .filter(({ method, path }) => method === 'POST' && path !== '/v1/completions')
      .map(({ path }) => path),
  );
}

/** Whether each is paused, by its own account. */
export async function pausedOf(engines: readonly ReferenceEngine[]): Promise<boolean[]> {
  return (await Promise.all(engines.map((engine) => engine.state()))).map(({ paused }) => paused !== null);
}
