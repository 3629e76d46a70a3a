/** What a user, or discovery, says of a Dynamo worker beside its address. */
import { WeightcastError } from '../../errors.js';
import type { EngineTarget } from '../http.js';
import { parseVersion } from '../vllm-native/version.js';

export type DynamoDialect = 'python' | 'sidecar' | 'sglang';
/** Whose worker methods `engine_rpc` names: vLLM's own weight transfer, or prime-rl's worker extension. */
export type DynamoRpc = 'native' | 'prime-rl';

/**
 * Keys of {@link EngineTarget.parameters}. Discovery fills in `model` and `instance_id` (decimal), and {@link EngineTarget.routes}; the others are for people.
 */
export const DYNAMO_PARAMETERS = [
  'dialect',
  'rpc',
  'vllm',
  'routes',
  'model',
  'instance_id',
  'admin_base_url',
] as const;

export interface DynamoParameters {
  /** null: by the routes. */
  readonly dialect: DynamoDialect | null;
  readonly rpc: DynamoRpc;
  /** Version of the vLLM inside the worker: it decides what init_info may hold. */
  readonly vllm: string;
  readonly routes: ReadonlySet<string> | null;
  /** The base model; the frontend lists adapters beside it. */
  readonly model: string | null;
  readonly instanceId: bigint | null;
  readonly adminBaseUrl: string | null;
}

/** Dynamo 1.6.1 pins it, and it was measured there; packing is in init_info from 0.28 on. */
const VLLM_OF_DYNAMO_1_6 = '0.31.0';

/** @throws WeightcastError WC_CONFIG_INVALID */
export function dynamoParameters({ id, parameters, routes: discovered }: EngineTarget): DynamoParameters {
  const { routes, instance_id: instanceId, vllm = VLLM_OF_DYNAMO_1_6 } = parameters;
  const invalid = (key: string, expected: string) =>
    new WeightcastError(
      'WC_CONFIG_INVALID',
      `engine: ${key}=${(parameters[key] ?? '').slice(0, 80)} is not ${expected}`,
      {
        engine: id,
      },
    );
  const oneOf = <T extends string>(key: string, known: readonly T[]): T | null => {
    const value = parameters[key];
    if (value === undefined) return null;
    const found = known.find((each) => each === value);
    if (found === undefined) throw invalid(key, `one of ${known.join(', ')}`);
    return found;
  };
  if (parseVersion(vllm) === null) throw invalid('vllm', 'a vLLM version, such as 0.31.0');
  if (instanceId !== undefined && !/^\d{1,20}$/.test(instanceId))
    throw invalid('instance_id', 'a decimal u64');
  return {
    dialect: oneOf('dialect', ['python', 'sidecar', 'sglang']),
    rpc: oneOf('rpc', ['native', 'prime-rl']) ?? 'native',
    vllm,
    routes: routesOf(routes, discovered),
    model: parameters.model ?? null,
    instanceId: instanceId === undefined ? null : BigInt(instanceId),
    adminBaseUrl: parameters.admin_base_url ?? null,
  };
}

/** Said by hand, between spaces or commas, or as discovery lists them. */
function routesOf(
  said: string | undefined,
  discovered: readonly string[] | undefined,
): ReadonlySet<string> | null {
  if (said !== undefined) return new Set(said.split(/[\s,]+/).filter((route) => route !== ''));
  return discovered === undefined ? null : new Set(discovered);
}
