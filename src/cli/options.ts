/** The flags that commands share: the configuration file's keys with `-` for `_`. */
import { type Command, Option } from 'commander';
import type { Settings } from '../config.js';
import { WeightcastError } from '../errors.js';
import { DEFAULT_TIMEOUTS } from '../update/types.js';

/** What commander gives for the shared flags. */
export interface FleetFlags extends Readonly<Record<string, unknown>> {
  readonly config?: string;
  readonly primeRlConfig?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

interface Flag {
  readonly flags: string;
  readonly text: string;
  /** Told in the help; the update itself applies it, so that a file's value is not overridden. */
  readonly preset?: string;
  readonly many?: true;
}

const TIMEOUT_TEXTS: Readonly<Record<keyof typeof DEFAULT_TIMEOUTS, string>> = {
  probe: 'one question to an engine (health, version)',
  pause: 'the pause of an engine',
  resume: 'the resume of an engine',
  rendezvous: 'all workers have joined',
  update: 'the transfer of one version, or a load from disk',
  checksum: "one engine's own weight checker",
  score: 'one scored prompt',
  discovery: 'engines that are to be found are there (--discover, --elastic)',
};

const FLAGS: readonly Flag[] = [
  {
    flags: '--discover <dynamo=url>',
    text: "engines that a frontend of NVIDIA Dynamo lists: its base URL or its RL listener; repeat it for the deployment's other frontends",
    many: true,
  },
  {
    flags: '--elastic <host:port>',
    text: 'engines behind every address of a name; host:port,backend=prime-rl; repeat it',
    many: true,
  },
  { flags: '--router-url <url>', text: 'where requests go, when a router stands before the engines' },
  {
    flags: '--sync-interval <seconds>',
    text: 'time between two looks at engines that are to be found (--discover, --elastic), between updates',
    preset: '5',
  },
  {
    flags: '-e, --engine <url>',
    text: 'an engine, BACKEND=http://host:port[,workers=N][,inference=URL][,KEY=VALUE…] with vllm, dynamo, prime-rl or auto for BACKEND; repeat it. With --discover and --elastic one list, which replaces that of a file',
    many: true,
  },
  { flags: '--backend <name>', text: 'of engines that name none; auto finds out', preset: 'vllm' },
  { flags: '--served-model <name>', text: 'what every engine must list in its /v1/models' },
  { flags: '-t, --transport <nccl|filesystem>', text: 'how the weights travel', preset: 'nccl' },
  {
    flags: '--fallback <filesystem|none>',
    text: 'engines that NCCL does not reach load the weights from disk',
    preset: 'none',
  },
  { flags: '--recover <dir>', text: 'an older, good version that heals an engine when the new one cannot' },
  { flags: '--emulate', text: 'emulated CUDA and NCCL in host memory: no GPU needed, numbers mean nothing' },
  { flags: '--packed', text: 'packed wire format', preset: 'on' },
  { flags: '--no-packed', text: 'one broadcast for each tensor' },
  { flags: '--packed-buffer-bytes <n>', text: 'size at which a packed chunk closes', preset: '256MiB' },
  {
    flags: '--master-address <host>',
    text: 'address under which engines reach this process',
    preset: 'the local address towards the first engine',
  },
  { flags: '--master-port <port>', text: 'port of the rendezvous store', preset: '0, a free one' },
  { flags: '--device <n>', text: 'CUDA device that sends', preset: '0' },
  { flags: '--pause-mode <keep|wait|abort>', text: 'what becomes of running requests', preset: 'keep' },
  { flags: '--clear-cache', text: "the pause clears the engines' caches", preset: 'on' },
  { flags: '--no-clear-cache', text: 'running requests keep their cache of the old weights' },
  {
    flags: '--verify <auto|digest|fingerprint|none>',
    text: 'how the bytes are proved',
    preset: 'auto: the first update by digest where the engine can, then by fingerprint',
  },
  { flags: '--cuda-library <path>', text: 'libcuda.so.1 (also WEIGHTCAST_CUDA_LIBRARY)', preset: 'searched' },
  { flags: '--nccl-library <path>', text: 'libnccl.so.2 (also WEIGHTCAST_NCCL_LIBRARY)', preset: 'searched' },
  { flags: '--api-key-env <name>', text: 'environment variable with the API key of the engines' },
  { flags: '--header <K: V>', text: 'a header for every request to an engine; repeat it', many: true },
  {
    flags: '--header-env <K: NAME>',
    text: 'a header whose value is in an environment variable; repeat it',
    many: true,
  },
  {
    flags: '--timeout-ready <seconds>',
    text: 'deadline: named engines that are still starting answer',
    preset: 'none, they must answer at once',
  },
  ...Object.entries(TIMEOUT_TEXTS).map(([name, text]) => ({
    flags: `--timeout-${name} <seconds>`,
    text: `deadline: ${text}`,
    preset: String(DEFAULT_TIMEOUTS[name as keyof typeof DEFAULT_TIMEOUTS] / 1000),
  })),
  {
    flags: '--state-dir <dir|none>',
    text: 'where pushes to the same engines find one another (also WEIGHTCAST_STATE_DIR)',
    preset: 'a folder of this user on this machine',
  },
  { flags: '--guardian', text: 'a process that puts the engines right if this one is killed', preset: 'on' },
  { flags: '--no-guardian', text: 'a killed push leaves engines paused until the next push or recover' },
  {
    flags: '--prime-rl-config <file>',
    text: "prime-rl's own TOML file: its client and weight_broadcast tables; --config and the command line override it",
  },
  {
    flags: '--config <file>',
    text: 'TOML file with the same options; the command line overrides it: engines as a whole, timeouts and headers one by one',
  },
];

export type FlagsOf = 'push' | 'watch' | 'recover' | 'doctor' | 'fleet' | 'send' | 'orchestrate';

const EVERYWHERE =
  'engine|backend|discover|elastic|api-key-env|header|header-env|timeout-probe|config|prime-rl-config';

/** Only what has an effect there: a recovery sends nothing by NCCL, and who only looks pauses nobody. */
const ONLY: Readonly<Record<FlagsOf, RegExp>> = {
  push: /^(?!(router-url|sync-interval)$)/,
  watch: /^(?!router-url$)/,
  recover: new RegExp(`^(${EVERYWHERE}|timeout-(?!ready)\\w+|state-dir|verify)$`),
  // A push with another first word.
  doctor: /^(?!(router-url|sync-interval|served-model|timeout-ready)$)/,
  fleet: new RegExp(`^(${EVERYWHERE}|router-url|served-model)$`),
  // Asks no engine.
  send: /^(emulate|packed|no-packed|packed-buffer-bytes|master-address|master-port|device|cuda-library|nccl-library|timeout-rendezvous|timeout-update|prime-rl-config|config)$/,
  // Sends nothing.
  orchestrate:
    /^(engine|backend|served-model|discover|elastic|sync-interval|api-key-env|header|header-env|timeout-(ready|discovery|rendezvous|update)|state-dir|prime-rl-config|config)$/,
};

/** What a command takes where nothing is said, if not what the others take. */
const PRESETS: Readonly<Partial<Record<FlagsOf, Readonly<Record<string, string>>>>> = {
  send: {
    'master-address': '127.0.0.1',
    'master-port': '29501',
    'timeout-rendezvous': '1200',
    'packed-buffer-bytes': '256MiB',
  },
  orchestrate: {
    backend: 'prime-rl',
    'timeout-ready': '1800',
    'timeout-rendezvous': '1200, and 25 of Dynamo workers',
  },
};

export function addFleetFlags(command: Command, of: FlagsOf): Command {
  for (const { flags, text, preset, many } of FLAGS) {
    const name = /--([a-z-]+)/.exec(flags)?.[1] ?? '';
    if (!ONLY[of].test(name)) continue;
    const own = PRESETS[of]?.[name] ?? preset;
    const option = new Option(flags, own === undefined ? text : `${text} (default: ${own})`);
    if (many) {
      option.argParser<string[]>((value, before = []) => [...before, value]);
    }
    command.addOption(option);
  }
  return command;
}

const NUMBERS = new Set(['master_port', 'device', 'interval', 'sync_interval']);
const OUTSIDE = new Set([
  ...['config', 'prime_rl_config', 'json', 'quiet', 'max_updates', 'from', 'watch', 'prometheus'],
  // Of the roles beside prime-rl: checked where they are used.
  ...[
    'broadcasts',
    'inference_world_size',
    'markers',
    'timeout_answer',
    'trainer',
    'lora_name',
    'timeout_idle',
  ],
]);

/** The flags under the file's names and types, not yet validated: text that is no number stays text, for the schema to refuse. */
export function flagSettings(flags: FleetFlags): Record<string, unknown> {
  const settings: Record<string, unknown> = {};
  const timeouts: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(flags)) {
    const key = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (OUTSIDE.has(key)) continue;
    if (key.startsWith('timeout_')) timeouts[key.slice('timeout_'.length)] = number(value);
    else if (key === 'header') settings.headers = headers(value, '--header');
    else if (key === 'header_env') settings.headers_from_env = headers(value, '--header-env');
    else settings[key] = NUMBERS.has(key) ? number(value) : value;
  }
  if (Object.keys(timeouts).length > 0) settings.timeouts = timeouts;
  return settings;
}

function number(value: unknown): unknown {
  return typeof value === 'string' && /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value;
}

function headers(lines: unknown, flag: '--header' | '--header-env'): Record<string, string> {
  return Object.fromEntries(
    (lines as readonly string[]).map((line) => {
      const colon = line.indexOf(':');
      if (colon !== -1) return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
      // The line itself may be a secret.
      const example = flag === '--header' ? 'X-Team: rl' : 'Authorization: MY_VARIABLE';
      throw new WeightcastError('WC_CONFIG_INVALID', `${flag}: must have a colon, as in '${example}'`);
    }),
  );
}

/**
 * The file, if one is named, with the command line over it.
 * @throws WeightcastError WC_CONFIG_INVALID
 */
export async function resolveSettings(flags: FleetFlags): Promise<Settings> {
  const { mergeSettings, readSettingsFile, validateSettings } = await import('../config.js');
  const given = validateSettings(flagSettings(flags), { kind: 'flags' });
  const filed =
    flags.config === undefined ? given : mergeSettings(await readSettingsFile(flags.config), given);
  return flags.primeRlConfig === undefined
    ? filed
    : mergeSettings(await primeRlSettings(flags.primeRlConfig), filed);
}

async function primeRlSettings(path: string): Promise<Settings> {
  const { readPrimeRlFile } = await import('../config/prime-rl.js');
  return (await readPrimeRlFile(path)).settings;
}
