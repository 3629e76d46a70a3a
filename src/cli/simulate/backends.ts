/** The reference engines of each backend that `weightcast simulate` can start, and how a user names them. */
import { WeightcastError } from '../../errors.js';
import {
  type ReferenceEngine,
  type SimulateOptions,
  simulateFleet,
  startReferenceDynamo,
  startReferencePrimeRl,
} from '../../testing/index.js';

export type Broadcast = 'nccl' | 'filesystem';

/** vLLM's backends; sparse_nccl takes deltas only. */
export type WeightTransfer = 'nccl' | 'sparse_nccl';

export interface Order {
  readonly backend: 'vllm' | 'prime-rl' | 'dynamo';
  readonly engines: number;
  /** Of each engine. */
  readonly workers: number;
  readonly model: string;
  /** Of the first; 0: free ones. */
  readonly port: number;
  readonly version: SimulateOptions['version'];
  readonly broadcast: Broadcast | undefined;
  readonly weightTransfer: WeightTransfer | undefined;
}

/** Engines that run until they are disposed of. */
export interface Simulation extends AsyncDisposable {
  readonly engines: readonly ReferenceEngine[];
  /** What each is, for people. */
  readonly what: string;
  /** How a push, or another command, names all of them. */
  readonly words: readonly string[];
  /** Further addresses by their names. */
  readonly places: Readonly<Record<string, string>>;
}

/** @throws WeightcastError WC_CONFIG_INVALID for what the backend does not have, WC_REFERENCE_ENGINE when one does not start */
export async function startSimulation(order: Order): Promise<Simulation> {
  const { backend, version, broadcast, weightTransfer } = order;
  if (version !== undefined && backend !== 'vllm') throw onlyFor('--vllm-version', 'vllm');
  if (broadcast !== undefined && backend !== 'prime-rl') throw onlyFor('--broadcast', 'prime-rl');
  if (weightTransfer !== undefined && backend !== 'vllm') throw onlyFor('--weight-transfer', 'vllm');
  return await START[backend](order);
}

const START: Readonly<Record<Order['backend'], (order: Order) => Promise<Simulation>>> = {
  vllm: async ({ engines, workers, model, port, version, weightTransfer }) => {
    const sparse = weightTransfer === 'sparse_nccl';
    const fleet = await simulateFleet({
      ...{ engines, workers, model, port },
      ...(version === undefined ? {} : { version }),
      ...(sparse ? { weightTransfer } : {}),
    });
    return {
      engines: fleet.engines,
      what: `vLLM ${fleet.engines[0]?.version}${sparse ? ' that takes deltas' : ''}`,
      words: [
        ...(sparse ? ['--delta-from', model] : []),
        ...fleet.addresses.flatMap((url) => ['-e', `vllm=${url}`]),
      ],
      places: {},
      [Symbol.asyncDispose]: () => fleet.close(),
    };
  },

  'prime-rl': async ({ engines: count, workers, model, port, broadcast = 'nccl' }) => {
    const starting = Array.from({ length: count }, (_, index) =>
      startReferencePrimeRl({ model, workers, broadcast, port: port === 0 ? 0 : port + index }),
    );
    const started = await Promise.allSettled(starting);
    const engines = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const close = async (): Promise<void> => {
      await Promise.all(engines.map((engine) => engine.close()));
    };
    const failed = started.find((each) => each.status === 'rejected');
    if (failed !== undefined) {
      await close();
      throw failed.reason;
    }
    const size = workers === 1 ? '' : `,workers=${workers}`;
    return {
      engines,
      what: `prime-rl 0.8.0, started for ${broadcast}`,
      words: [
        ...engines.flatMap(({ url }) => ['-e', `prime-rl=${url}${size}`]),
        ...(broadcast === 'filesystem' ? ['-t', 'filesystem'] : []),
      ],
      places: {},
      [Symbol.asyncDispose]: close,
    };
  },

  dynamo: async ({ engines: count, workers, model, port }) => {
    const each = Array.from({ length: count }, (_, index) => (port === 0 ? {} : { port: port + index }));
    const dynamo = await startReferenceDynamo({ model, workers, engines: each });
    return {
      engines: dynamo.workers.map(({ engine }) => engine),
      what: 'the system port of a Dynamo worker',
      words: ['--discover', `dynamo=${dynamo.url},rl=${dynamo.discoveryUrl}`],
      places: { frontend: dynamo.url, discovery: dynamo.discoveryUrl },
      [Symbol.asyncDispose]: () => dynamo.close(),
    };
  },
};

function onlyFor(flag: string, backend: string): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', `${flag} is for --backend ${backend}`);
}
