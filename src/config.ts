/**
 * Options of a push from a TOML file and from the command line, through one schema.
 *
 * A file has no secrets: it names the environment variables that hold them.
 */
import { dirname, resolve } from 'node:path';
import { describeIssues, type Origin } from './config/problems.js';
import { rlPortOf } from './config/rl-port.js';
import { type Settings, settingsSchema } from './config/schema.js';
import { parseToml, readBounded } from './config/toml.js';
import { WeightcastError } from './errors.js';
import { parseDiscover, parseElastic } from './fleet/specs.js';
import type { EngineSpec, FleetOptions, UpdateOptions, UpdateTimeouts } from './update/types.js';

export type { Settings } from './config/schema.js';

/** As a state_dir: none at all. */
const NO_STATE = 'none';

/**
 * Reads and validates a configuration file; paths in it are relative to its folder.
 * @throws WeightcastError WC_CONFIG_INVALID, which names the file, the key, the allowed values and the nearest known key
 */
export async function readSettingsFile(path: string): Promise<Settings> {
  const settings = parseSettings(await readBounded(path), path);
  const folder = dirname(resolve(path));
  const absolute = (value: string | undefined) => (value === undefined ? undefined : resolve(folder, value));
  return defined({
    ...settings,
    recover: absolute(settings.recover),
    delta_from: absolute(settings.delta_from),
    state_dir: settings.state_dir === NO_STATE ? NO_STATE : absolute(settings.state_dir),
    cuda_library: absolute(settings.cuda_library),
    nccl_library: absolute(settings.nccl_library),
  });
}

/**
 * The options in the text of a configuration file, paths as written.
 * @throws WeightcastError WC_CONFIG_INVALID
 */
export function parseSettings(text: string, path: string): Settings {
  return validateSettings(parseToml(text, path), { kind: 'file', path });
}

/**
 * Validates options that have the file's names.
 * @throws WeightcastError WC_CONFIG_INVALID with one sentence a problem
 */
export function validateSettings(input: unknown, origin: Origin): Settings {
  const result = settingsSchema.safeParse(input);
  const problems = result.success
    ? secretsInFile(result.data, origin)
    : describeIssues(result.error.issues, input, origin);
  if (result.success && problems.length === 0) return defined(result.data);
  throw invalid(`${origin.kind === 'file' ? `${origin.path}: ` : ''}${problems.join('; ')}`);
}

/** The three ways to say which engines belong to the fleet: one list. */
const ENGINES = ['engine', 'discover', 'elastic'] as const;

/** The command line overrides the file; timeouts and headers one by one, engines (listed and found) as a whole. */
export function mergeSettings(file: Settings, flags: Settings): Settings {
  const others = ENGINES.some((key) => flags[key] !== undefined)
    ? { engine: undefined, discover: undefined, elastic: undefined }
    : {};
  return defined({
    ...file,
    ...others,
    ...flags,
    timeouts: merged(file.timeouts, flags.timeouts),
    headers: merged(file.headers, flags.headers),
    headers_from_env: merged(file.headers_from_env, flags.headers_from_env),
  });
}

/**
 * What {@link connectFleet} takes: milliseconds, and secrets read from the environment.
 * @throws WeightcastError WC_CONFIG_INVALID when no engine is given, a variable is not set, or two options exclude each other
 */
export function fleetOptions(
  settings: Settings,
  env: Readonly<Record<string, string | undefined>>,
): FleetOptions {
  const { engine: engines = [], discover = [], elastic = [] } = settings;
  if (engines.length + discover.length + elastic.length === 0) {
    throw invalid('no engine given: pass --engine, --discover or --elastic, or [[engine]] in the file');
  }
  if (settings.emulate === true && (settings.cuda_library ?? settings.nccl_library) !== undefined) {
    throw invalid('emulate selects the emulated libraries: leave out cuda_library and nccl_library');
  }
  return defined({
    engines: engines.map(
      (engine): EngineSpec =>
        defined({
          url: engine.url,
          backend: engine.backend,
          apiKey: fromEnv(engine.api_key_env, 'api_key_env', env),
          headers: allHeaders(engine, env),
          workers: engine.workers,
          inferenceUrl: engine.inference,
          parameters: engine.parameters,
        }),
    ),
    discover:
      discover.length === 0
        ? undefined
        : discover.map((text) => parseDiscover(onRlPort(text, 'dynamo=', env))),
    elastic:
      elastic.length === 0
        ? undefined
        : elastic.map((text) => parseElastic(onRlPort(text, ',discover=', env))),
    routerUrl: settings.router_url,
    pool: settings.sync_interval === undefined ? undefined : { intervalMs: settings.sync_interval * 1000 },
    backend: settings.backend,
    servedModel: settings.served_model,
    transport: settings.transport,
    fallback: settings.fallback,
    recover: settings.recover,
    emulate: settings.emulate,
    cudaLibrary: settings.cuda_library,
    ncclLibrary: settings.nccl_library,
    device: settings.device,
    packed: settings.packed,
    packedBufferBytes: settings.packed_buffer_bytes,
    masterAddress: settings.master_address,
    masterPort: settings.master_port,
    pauseMode: settings.pause_mode,
    clearCache: settings.clear_cache,
    verify: settings.verify,
    apiKey: fromEnv(settings.api_key_env, 'api_key_env', env),
    headers: allHeaders(settings, env),
    timeouts: settings.timeouts && milliseconds(settings.timeouts),
    stateDir: settings.state_dir === NO_STATE ? null : settings.state_dir,
    // A command, unlike a library, may start a process of its own.
    guardian: settings.guardian ?? true,
  });
}

/** What engines hold that are sent a delta, where it is said. */
export function deltaFromOptions(settings: Settings): Pick<UpdateOptions, 'deltaFrom' | 'deltaFromVersion'> {
  return defined({ deltaFrom: settings.delta_from, deltaFromVersion: settings.delta_from_version });
}

/** DYN_RL_PORT says for prime-rl where the listener is, and so it does here, unless the text says it. */
function onRlPort(text: string, mark: string, env: Readonly<Record<string, string | undefined>>): string {
  const isSaid = /,(rl|rl_port)=/.test(text) || !text.includes(mark);
  const port = isSaid ? null : rlPortOf(env);
  return port === null ? text : `${text},rl_port=${port}`;
}

function secretsInFile(settings: Settings, origin: Origin): string[] {
  if (origin.kind !== 'file') return [];
  return [settings, ...(settings.engine ?? [])]
    .flatMap((table) => Object.keys(table.headers ?? {}))
    .filter((name) => /^(proxy-)?authorization$|cookie|api-?key|token/i.test(name))
    .map((name) => `headers.${name}: secrets do not belong in this file; use headers_from_env.${name}`);
}

interface HeaderTables {
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly headers_from_env?: Readonly<Record<string, string>> | undefined;
}

function allHeaders(table: HeaderTables, env: Readonly<Record<string, string | undefined>>) {
  const secret = Object.entries(table.headers_from_env ?? {}).map(
    ([name, variable]) => [name, fromEnv(variable, `headers_from_env.${name}`, env)] as const,
  );
  const headers: Record<string, string | undefined> = { ...table.headers, ...Object.fromEntries(secret) };
  return Object.keys(headers).length === 0 ? undefined : (headers as Record<string, string>);
}

function fromEnv(
  name: string | undefined,
  key: string,
  env: Readonly<Record<string, string | undefined>>,
): string | undefined {
  if (name === undefined) return undefined;
  const value = env[name];
  if (value === undefined || value === '') {
    throw invalid(`${key}: the environment variable ${name} is not set`);
  }
  if (!/^[\t\x20-\x7e]*$/.test(value)) {
    throw invalid(`${key}: the environment variable ${name} is not printable ASCII on one line`);
  }
  return value;
}

/** Who waits for engines that start does so before an update: see cli/ready.ts. */
function milliseconds({ ready: _, ...seconds }: NonNullable<Settings['timeouts']>): Partial<UpdateTimeouts> {
  return Object.fromEntries(
    Object.entries(seconds).map(([name, value]) => [name, Math.ceil((value ?? 0) * 1000)]),
  );
}

function merged<T extends object>(under: T | undefined, over: T | undefined): T | undefined {
  return under === undefined ? over : over === undefined ? under : { ...under, ...over };
}

type Defined<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/** Without the keys whose value is undefined: "not given" has one representation. */
function defined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined)) as Defined<T>;
}

function invalid(message: string, cause?: unknown): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', message, { cause });
}
