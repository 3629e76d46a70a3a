import { resolve } from 'node:path';
import type { Packing, PauseMode } from '../engines/admin.js';
import { backendNames } from '../engines/registry.js';
import { WeightcastError } from '../errors.js';
import type { DiscoverSpec, ElasticSpec } from '../fleet/specs.js';
import { type StatePlace, statePlace } from './claim/state-directory.js';
import {
  DEFAULT_TIMEOUTS,
  type EngineSpec,
  type FleetOptions,
  type TransportName,
  type UpdateEvent,
  type UpdateTimeouts,
  type VerifyMode,
} from './types.js';

export const DEFAULT_PACKED_BUFFER_BYTES = 256 * 1024 * 1024;

/** {@link FleetOptions} with every default filled in and checked. */
export interface Settings {
  readonly engines: readonly (string | EngineSpec)[];
  readonly discover: readonly (string | DiscoverSpec)[];
  readonly elastic: readonly (string | ElasticSpec)[];
  readonly pool: NonNullable<FleetOptions['pool']>;
  readonly routerUrl: string | null;
  readonly backend: string;
  readonly servedModel: string | null;
  readonly transport: TransportName;
  readonly fallback: 'filesystem' | 'none';
  readonly recover: string | null;
  readonly emulate: boolean;
  readonly cudaLibrary: string | null;
  readonly ncclLibrary: string | null;
  readonly device: number;
  readonly packing: Packing | null;
  readonly masterAddress: string | null;
  readonly masterPort: number;
  readonly pauseMode: PauseMode;
  readonly clearCache: boolean;
  readonly verify: VerifyMode;
  readonly apiKey: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeouts: UpdateTimeouts;
  /** False where `timeouts.rendezvous` is the default, which engines may shorten. */
  readonly isRendezvousSaid: boolean;
  /** null: without claims, journal and guardian. */
  readonly state: StatePlace | null;
  readonly guardian: boolean;
  readonly onEvent: (event: UpdateEvent) => void;
}

/** @throws WeightcastError WC_CONFIG_INVALID */
export function resolveSettings(options: FleetOptions): Settings {
  const packedBufferBytes = options.packedBufferBytes ?? DEFAULT_PACKED_BUFFER_BYTES;
  const masterPort = options.masterPort ?? 0;
  const device = options.device ?? 0;
  const timeouts = { ...DEFAULT_TIMEOUTS, ...options.timeouts };
  const { engines, discover = [], elastic = [] } = options;
  check(engines.length + discover.length + elastic.length > 0, 'engines', 'name at least one engine');
  check(isInteger(packedBufferBytes, 1), 'packedBufferBytes', 'a whole number of bytes, at least 1');
  check(isInteger(masterPort, 0, 65_535), 'masterPort', 'a port number, or 0 for a free one');
  check(isInteger(device, 0), 'device', 'the index of a CUDA device');
  check(isInteger(options.pool?.absences ?? 1, 1), 'pool.absences', 'a number of looks, at least 1');
  oneOf('backend', options.backend, backendNames);
  oneOf('transport', options.transport, ['nccl', 'filesystem']);
  oneOf('fallback', options.fallback, ['filesystem', 'none']);
  oneOf('pauseMode', options.pauseMode, ['keep', 'wait', 'abort']);
  oneOf('verify', options.verify, ['auto', 'digest', 'fingerprint', 'none']);
  for (const [name, value] of Object.entries(timeouts)) {
    check(Number.isFinite(value) && value > 0, `timeouts.${name}`, 'a positive number of milliseconds');
  }
  return {
    engines,
    discover,
    elastic,
    pool: options.pool ?? {},
    routerUrl: options.routerUrl ?? null,
    backend: options.backend ?? 'vllm',
    servedModel: options.servedModel ?? null,
    transport: options.transport ?? 'nccl',
    fallback: options.fallback ?? 'none',
    recover: options.recover === undefined ? null : resolve(options.recover),
    emulate: options.emulate ?? false,
    cudaLibrary: options.cudaLibrary ?? null,
    ncclLibrary: options.ncclLibrary ?? null,
    device,
    packing: (options.packed ?? true) ? { bufferBytes: packedBufferBytes, numBuffers: 2 } : null,
    masterAddress: options.masterAddress ?? null,
    masterPort,
    pauseMode: options.pauseMode ?? 'keep',
    clearCache: options.clearCache ?? true,
    verify: options.verify ?? 'auto',
    apiKey: options.apiKey ?? null,
    headers: options.headers ?? {},
    timeouts,
    isRendezvousSaid: options.timeouts?.rendezvous !== undefined,
    state: options.stateDir === null ? null : statePlace(options.stateDir),
    guardian: options.guardian ?? false,
    onEvent: harmless(options.onEvent),
  };
}

function isInteger(value: number, min: number, max = Number.MAX_SAFE_INTEGER): boolean {
  return Number.isSafeInteger(value) && value >= min && value <= max;
}

function check(ok: boolean, key: string, expected: string): void {
  if (!ok)
    throw new WeightcastError('WC_CONFIG_INVALID', `${key}: expected ${expected}`, { details: { key } });
}

function oneOf(key: string, value: string | undefined, allowed: readonly string[]): void {
  check(
    value === undefined || allowed.includes(value),
    key,
    `one of ${allowed.join(', ')}, not ${JSON.stringify(value)}`,
  );
}

/** A listener that throws must not end an update half-way; it is told once. */
export function harmless<E>(listener: ((event: E) => void) | undefined): (event: E) => void {
  let told = false;
  return (event) => {
    try {
      listener?.(event);
    } catch (error) {
      if (told) return;
      told = true;
      process.emitWarning(`weightcast: an onEvent listener threw: ${String(error)}`);
    }
  };
}
