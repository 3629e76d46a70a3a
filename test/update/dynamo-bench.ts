/** Fleets of reference Dynamo workers behind one frontend, and checkpoints, for the tests of the update. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ReferenceDynamo,
  type ReferenceDynamoOptions,
  type ReferenceDynamoWorker,
  startReferenceDynamo,
  writeTinyModel,
} from '../../src/testing/index.js';
import { connectFleet, type FleetSession } from '../../src/update/index.js';
import type { FleetOptions } from '../../src/update/types.js';

export interface DynamoBench {
  readonly dynamo: ReferenceDynamo;
  readonly workers: readonly ReferenceDynamoWorker[];
  /** Checkpoints of the same shape: the workers start with `a`. */
  readonly a: string;
  readonly b: string;
  readonly c: string;
  connect(options?: Partial<FleetOptions>): Promise<FleetSession>;
}

export async function withDynamo(
  { layers = 2, ...options }: Omit<ReferenceDynamoOptions, 'model'> & { readonly layers?: number },
  body: (bench: DynamoBench) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'weightcast-dynamo-'));
  const [a, b, c] = [join(folder, 'a'), join(folder, 'b'), join(folder, 'c')];
  const sessions: FleetSession[] = [];
  try {
    await writeTinyModel(a, { seed: 1, layers });
    await writeTinyModel(b, { seed: 2, layers });
    await writeTinyModel(c, { seed: 3, layers });
    await using dynamo = await startReferenceDynamo({ workersInEngine: true, ...options, model: a });
    const connect = async (more: Partial<FleetOptions> = {}) => {
      const session = await connectFleet({
        engines: dynamo.workers.map((worker) => engineOf(worker, dynamo)),
        emulate: true,
        packedBufferBytes: 50_000,
        stateDir: join(folder, 'state'),
        ...more,
      });
      sessions.push(session);
      return session;
    };
    try {
      await body({ dynamo, workers: dynamo.workers, a, b, c, connect });
    } finally {
      await Promise.all(sessions.map((session) => session.close()));
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** As a user names it. */
export function engineOf(worker: ReferenceDynamoWorker, dynamo: ReferenceDynamo): string {
  return `dynamo=${worker.systemUrl},inference=${dynamo.url}`;
}

/** POST /engine/<route>, behind the back of the session. */
export async function engineRoute(
  worker: ReferenceDynamoWorker,
  route: string,
  body: object = {},
): Promise<Record<string, unknown>> {
  const response = await fetch(`${worker.systemUrl}/engine/${route}`, {
    method: 'POST',
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  return (await response.json()) as Record<string, unknown>;
}

/** Through the frontend; `finish_reason`, the number of tokens, and the status. */
export function chat(
  dynamo: ReferenceDynamo,
  request: { model?: string; tokens?: number; signal?: AbortSignal } = {},
): Promise<ChatAnswer> {
  const answer = chatThrough(dynamo, request);
  // Tests look at it when something else is done: until then its failure is nobody's.
  answer.catch(() => undefined);
  return answer;
}

interface ChatAnswer {
  readonly status: number;
  readonly reason: string | null;
  readonly tokens: number;
}

async function chatThrough(
  dynamo: ReferenceDynamo,
  {
    model = 'reference',
    tokens = 1,
    signal = AbortSignal.timeout(60_000),
  }: { model?: string; tokens?: number; signal?: AbortSignal },
): Promise<ChatAnswer> {
  const response = await fetch(`${dynamo.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }], max_tokens: tokens }),
    signal,
  });
  const text = await response.text();
  const body = (text === '' ? {} : JSON.parse(text)) as {
    choices?: { finish_reason: string }[];
    usage?: { completion_tokens: number };
  };
  return {
    status: response.status,
    reason: body.choices?.[0]?.finish_reason ?? null,
    tokens: body.usage?.completion_tokens ?? 0,
  };
}
