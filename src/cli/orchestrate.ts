/** `weightcast orchestrate`: the orchestrator's part beside a prime-rl trainer, over engines that are named. */
import { resolve } from 'node:path';
import { fleetOptions, type Settings } from '../config.js';
import { WeightcastError } from '../errors.js';
import type { FollowOptions } from '../operations/index.js';
import type { CommandContext } from './context.js';
import { count, paint, printable } from './format.js';
import { Monitor } from './monitor.js';
import { type FleetFlags, resolveSettings } from './options.js';
import { EXIT } from './outcome.js';

export interface OrchestrateFlags extends FleetFlags {
  /** 'host:port' */
  readonly trainer?: string;
  readonly inferenceWorldSize?: number;
  readonly loraName?: string;
  /** Seconds. */
  readonly timeoutIdle?: number;
  readonly maxUpdates?: number;
}

/**
 * Follows the trainer until a signal, or until `maxUpdates` versions are served.
 *
 * @returns 0, or 130 where no version had come
 * @throws WeightcastError what followTrainer throws; engines that are not whole stay paused (exit code 3)
 */
export async function orchestrate(
  broadcasts: string,
  flags: OrchestrateFlags,
  context: CommandContext,
): Promise<number> {
  const settings = await resolveSettings(flags);
  const group = groupOf(settings, flags);
  const { engines, apiKey, headers, stateDir } = named(settings, context.io.env);
  using monitor = new Monitor({ ...context, flags });
  const enough = new AbortController();
  let updates = 0;
  const { followTrainer } = await import('../operations/index.js');
  const { interval, timeouts } = settings;
  if (flags.quiet !== true) {
    const from = group === null ? 'files in' : `a trainer at ${group.host}:${group.port}, announced in`;
    monitor.say(`following ${from} ${broadcasts} for ${count(engines.length, 'engine')}`);
  }
  await followTrainer(engines, {
    broadcasts: resolve(broadcasts),
    admin: settings.backend ?? 'prime-rl',
    ...(apiKey === undefined ? {} : { apiKey }),
    ...(headers === undefined ? {} : { headers }),
    ...(group === null ? {} : { group }),
    ...(flags.loraName === undefined ? {} : { loraName: flags.loraName }),
    ...(interval === undefined ? {} : { pollMs: interval * 1000 }),
    ...(flags.timeoutIdle === undefined ? {} : { idleTimeoutMs: flags.timeoutIdle * 1000 }),
    ...(timeouts?.update === undefined ? {} : { updateTimeoutMs: timeouts.update * 1000 }),
    ...(stateDir === undefined ? {} : { stateDir }),
    signal: AbortSignal.any([monitor.signal, enough.signal]),
    onLog: (line) => monitor.say(printable(line)),
    onAnnounced: ({ version }) => {
      if (flags.quiet !== true) monitor.say(`version ${version} is announced`);
      monitor.onEvent({ kind: 'phase', phase: 'pause' });
    },
    onWithdrawn: () => monitor.ended(),
    onUpdated: ({ version, path }, adapters) => {
      monitor.ended();
      updates += 1;
      print({ version, path, adapters: Object.fromEntries(adapters) }, engines.length, flags, context);
      if (updates >= (flags.maxUpdates ?? Number.POSITIVE_INFINITY)) enough.abort();
    },
  });
  return updates === 0 ? EXIT.interrupted : EXIT.ok;
}

interface Served {
  readonly version: number;
  readonly path: string;
  /** Empty for a model. */
  readonly adapters: Readonly<Record<string, string>>;
}

function print(
  served: Served,
  engines: number,
  { json, quiet }: OrchestrateFlags,
  { io }: CommandContext,
): void {
  if (json === true) io.out.write(`${JSON.stringify(served)}\n`);
  else if (quiet !== true) {
    const names = [...new Set(Object.values(served.adapters))];
    const as = names.length === 0 ? '' : ` as ${names.map((name) => printable(name)).join(', ')}`;
    const what = paint(io.out.color, 'green', 'updated');
    io.out.write(`${what} to version ${served.version}${as}: ${count(engines, 'engine')}\n`);
  }
}

/** Where the trainer listens; null where it writes files. @throws WeightcastError WC_CONFIG_INVALID */
function groupOf(settings: Settings, flags: OrchestrateFlags): NonNullable<FollowOptions['group']> | null {
  const { inferenceWorldSize } = flags;
  const more = {
    ...(inferenceWorldSize === undefined ? {} : { inferenceWorldSize }),
    ...(settings.timeouts?.rendezvous === undefined
      ? {}
      : { joinTimeoutMs: settings.timeouts.rendezvous * 1000 }),
  };
  if (flags.trainer !== undefined) {
    const [, host, port] = /^(\[[0-9a-fA-F:.]+\]|[^:\s/]+):(\d{1,5})$/.exec(flags.trainer) ?? [];
    if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
      throw new WeightcastError(
        'WC_CONFIG_INVALID',
        `--trainer ${printable(flags.trainer, 80)}: must be HOST:PORT, such as 10.0.0.1:29501`,
      );
    }
    return { host: host.replace(/^\[(.*)\]$/, '$1'), port: Number(port), ...more };
  }
  // As a prime-rl file says it.
  const { transport, master_address: host, master_port: port } = settings;
  if (transport !== 'nccl') return null;
  if (host !== undefined && port !== undefined) return { host, port, ...more };
  throw new WeightcastError(
    'WC_CONFIG_INVALID',
    'where the trainer listens is not said: pass --trainer HOST:PORT',
  );
}

function named(settings: Settings, env: CommandContext['io']['env']) {
  const { engines, discover = [], elastic = [], apiKey, headers, stateDir } = fleetOptions(settings, env);
  if (discover.length + elastic.length > 0) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      'orchestrate drives engines that are named: the ranks of a group that a trainer has opened cannot change',
      { remedy: 'Name each with --engine.' },
    );
  }
  return { engines, apiKey, headers, stateDir };
}
