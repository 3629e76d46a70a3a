/** The workers of a Dynamo deployment as its frontends list them. */
import type { EngineTarget, HttpClient } from '../../engines/http.js';
import { WeightcastError } from '../../errors.js';
import type { Membership, MembershipSource } from '../membership.js';
import { type DynamoSnapshot, difference } from './answer.js';
import { DEFAULT_RL_PORT, DYNAMO_REMEDY, type Frontend, Listener } from './listener.js';
import type { DynamoWorker } from './worker.js';

export interface DynamoSourceOptions {
  readonly http: HttpClient;
  /** At least one; all must list the same workers. */
  readonly frontends: readonly Frontend[];
  readonly headers: Readonly<Record<string, string>>;
  readonly apiKey: string | null;
  /** Default 8001. */
  readonly rlPort?: number | undefined;
  /** GPU workers of engines that publish no world_size. */
  readonly workers?: number | null | undefined;
  /** Only workers of this model, in deployments that serve several. */
  readonly model?: string | null | undefined;
  /** What every worker's address would be followed by: `rpc`, `vllm`. */
  readonly parameters?: Readonly<Record<string, string>> | undefined;
}

/** @throws WeightcastError from `poll`: also WC_DISCOVERY_FAILED when frontends disagree, and for workers of several models without `model` */
export function dynamoSource(options: DynamoSourceOptions): MembershipSource {
  const { frontends, http, headers, apiKey, rlPort = DEFAULT_RL_PORT, workers = null } = options;
  const listeners = frontends.map(
    (frontend) => new Listener(frontend, { http, headers, apiKey, rlPort, workers }),
  );
  return {
    name: `dynamo ${frontends.map(({ url }) => url).join(', ')}`,
    remedy: DYNAMO_REMEDY,
    async poll(signal) {
      const snapshots = await Promise.all(listeners.map((listener) => listener.ask(signal)));
      const [first] = listeners;
      if (first === undefined) throw new RangeError('a Dynamo source needs a frontend');
      const inferenceUrl = listeners.find((listener) => listener.inferenceUrl !== null)?.inferenceUrl ?? null;
      return membershipOf(agreed(snapshots, listeners), { ...options, inferenceUrl });
    },
  };
}

/** The snapshot of all, when they are alike: frontends hear of a worker one after another. */
function agreed(snapshots: readonly DynamoSnapshot[], listeners: readonly Listener[]): DynamoSnapshot {
  const first = snapshots[0] as DynamoSnapshot;
  for (const [index, other] of snapshots.entries()) {
    const what = difference(first, other);
    if (what === null) continue;
    const [a, b] = [listeners[0]?.name, listeners[index]?.name];
    throw new WeightcastError('WC_DISCOVERY_FAILED', `${a} and ${b} do not list the same workers: ${what}`, {
      phase: 'discovery',
      remedy: 'Frontends of one fleet share DYN_NAMESPACE and the discovery backend: name one of them alone.',
    });
  }
  return first;
}

type Properties = Pick<DynamoSourceOptions, 'headers' | 'apiKey' | 'model' | 'parameters'> & {
  readonly inferenceUrl: string | null;
};

function membershipOf({ workers, unusable }: DynamoSnapshot, properties: Properties): Membership {
  const chosen = ofOneModel(workers, properties.model ?? null);
  return {
    members: chosen.map((worker) => ({ target: targetOf(worker, properties), identity: worker.identity })),
    unusable: unusable.map(({ identity, why, dead }) => ({ what: identity, why, mayServe: !dead })),
  };
}

/** One checkpoint is for one model; adapters and early builds leave the name out. */
function ofOneModel(workers: readonly DynamoWorker[], model: string | null): readonly DynamoWorker[] {
  if (model !== null) return workers.filter((worker) => worker.model === null || worker.model === model);
  const models = [...new Set(workers.flatMap((worker) => (worker.model === null ? [] : [worker.model])))];
  if (models.length <= 1) return workers;
  throw new WeightcastError('WC_DISCOVERY_FAILED', `the workers serve several models: ${models.join(', ')}`, {
    phase: 'discovery',
    remedy: `Say which one is pushed to: --discover dynamo=URL,model=${models[0]}`,
    details: { lasting: true },
  });
}

function targetOf(worker: DynamoWorker, properties: Properties): EngineTarget {
  const { headers, apiKey, inferenceUrl, parameters } = properties;
  return {
    id: worker.systemUrl,
    backend: 'dynamo',
    url: worker.systemUrl,
    headers,
    apiKey,
    workers: worker.worldSize,
    inferenceUrl,
    parameters: {
      ...parameters,
      instance_id: worker.identity.slice(worker.identity.lastIndexOf('/') + 1),
      // The frontend lists adapters and other models beside it.
      ...(worker.model === null ? {} : { model: worker.model }),
    },
    routes: worker.routes,
  };
}
