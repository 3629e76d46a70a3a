/** `weightcast orchestrate`: the orchestrator's part beside a prime-rl trainer, over engines that are named or found. */
import { resolve } from 'node:path';
import { fleetOptions, type Settings } from '../config.js';
import { WeightcastError } from '../errors.js';
import type { FollowOptions } from '../operations/index.js';
import type { Announcement } from '../transports/filesystem/prime-rl/index.js';
import type { FleetOptions } from '../update/types.js';
import type { CommandContext } from './context.js';
import { count, paint, printable } from './format.js';
import { Monitor } from './monitor.js';
import { type FleetFlags, resolveSettings } from './options.js';
import { EXIT, exitCodeOfError, reportOf } from './outcome.js';
import { awaitReady } from './ready.js';
import { closeSession, connectOrAbort } from './session.js';

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
 * Follows the trainer until a signal, or until `maxUpdates` versions have come.
 *
 * @returns 0, or 130 where no version had come; of engines that are found the exit code of the last version
 * @throws WeightcastError what followTrainer throws; engines that are not whole stay paused (exit code 3)
 */
export async function orchestrate(
  broadcasts: string,
  flags: OrchestrateFlags,
  context: CommandContext,
): Promise<number> {
  const settings = await resolveSettings(flags);
  const group = groupOf(settings, flags);
  const fleet = { backend: 'prime-rl', ...fleetOptions(settings, context.io.env) };
  using monitor = new Monitor({ ...context, flags });
  const round = new Round(resolve(broadcasts), { settings, fleet, flags, context, monitor });
  const isFound = (fleet.discover ?? []).length + (fleet.elastic ?? []).length > 0;
  if (!isFound) await round.followNamed(fleet.engines, group);
  else if (group === null) await round.followFiles();
  else await round.followFound(group);
  return round.code;
}

type Group = NonNullable<FollowOptions['group']>;

interface Parts {
  readonly settings: Settings;
  readonly fleet: FleetOptions;
  readonly flags: OrchestrateFlags;
  readonly context: CommandContext;
  readonly monitor: Monitor;
}

/** prime-rl's wait_for_ready_timeout. */
const READY_SECONDS = 1_800;

/** One run: what is followed, and what has come of it. */
class Round {
  readonly #broadcasts: string;
  readonly #parts: Parts;
  readonly #enough = new AbortController();
  readonly #signal: AbortSignal;
  #versions = 0;
  code: number = EXIT.interrupted;

  constructor(broadcasts: string, parts: Parts) {
    this.#broadcasts = broadcasts;
    this.#parts = parts;
    this.#signal = AbortSignal.any([parts.monitor.signal, this.#enough.signal]);
  }

  async followNamed(
    engines: FleetOptions['engines'],
    group: Group | null,
    more: Pick<FollowOptions, 'beforeUpdate'> = {},
  ): Promise<void> {
    const { settings, fleet, flags } = this.#parts;
    const { apiKey, headers, stateDir } = fleet;
    const { followTrainer } = await import('../operations/index.js');
    if (!(await this.#areReady(engines))) return;
    this.#say(engines.length, group);
    await followTrainer(engines, {
      ...this.#watched(() => engines.length),
      ...more,
      admin: fleet.backend ?? 'prime-rl',
      ...(apiKey === undefined ? {} : { apiKey }),
      ...(headers === undefined ? {} : { headers }),
      ...(group === null ? {} : { group }),
      ...(settings.timeouts?.update === undefined
        ? {}
        : { updateTimeoutMs: settings.timeouts.update * 1000 }),
      ...(stateDir === undefined ? {} : { stateDir }),
      onAnnounced: ({ version }) => {
        if (flags.quiet !== true) this.#parts.monitor.say(`version ${version} is announced`);
        this.#parts.monitor.onEvent({ kind: 'phase', phase: 'pause' });
      },
    });
  }

  /** False when it was interrupted. */
  async #areReady(engines: FleetOptions['engines']): Promise<boolean> {
    const { fleet, settings, monitor } = this.#parts;
    const { maybeCheckHasModel } = await import('../operations/index.js');
    const { apiKey, headers, servedModel, backend: admin = 'prime-rl' } = fleet;
    const access = {
      ...{ admin, signal: monitor.signal },
      ...(apiKey === undefined ? {} : { apiKey }),
      ...(headers === undefined ? {} : { headers }),
    };
    try {
      await awaitReady({ ...fleet, engines }, settings, { monitor, presetSeconds: READY_SECONDS });
      if (servedModel !== undefined) await maybeCheckHasModel(engines, servedModel, access);
      return true;
    } catch (error) {
      if (monitor.signal.aborted) return false;
      throw error;
    }
  }

  /** Those who are there when the group is joined; others end it. */
  async followFound(group: Group): Promise<void> {
    const { fleet, monitor } = this.#parts;
    const { findGroup } = await import('../operations/found-group.js');
    const inferenceWorldSize = group.inferenceWorldSize ?? null;
    await using found = await findGroup(fleet, { inferenceWorldSize, signal: monitor.signal });
    await this.followNamed(found.engines, group, { beforeUpdate: () => found.requireSame(this.#signal) });
  }

  /** Whoever is there, version by version. */
  async followFiles(): Promise<void> {
    const { fleet, flags, monitor } = this.#parts;
    const [{ connectFleet }, { followTrainerFiles }] = await Promise.all([
      import('../update/index.js'),
      import('../operations/index.js'),
    ]);
    const options: FleetOptions = { ...fleet, transport: 'filesystem', onEvent: monitor.onEvent };
    const session = await connectOrAbort(connectFleet, options, monitor.signal);
    try {
      this.#say(session.engines.length, null);
      await followTrainerFiles(session, {
        ...this.#watched(() => session.engines.length),
        onAnnounced: ({ version }) => {
          if (flags.quiet !== true) monitor.say(`version ${version} is announced`);
        },
        onFailed: (announcement, error) => this.#failed(announcement, error),
      });
    } finally {
      await closeSession(session, (text) => monitor.say(text));
    }
  }

  #say(engines: number, group: Group | null): void {
    const { flags, monitor } = this.#parts;
    if (flags.quiet === true) return;
    const from = group === null ? 'files in' : `a trainer at ${group.host}:${group.port}, announced in`;
    monitor.say(`following ${from} ${this.#broadcasts} for ${count(engines, 'engine')}`);
  }

  #watched(engines: () => number) {
    const { settings, flags, monitor } = this.#parts;
    return {
      broadcasts: this.#broadcasts,
      signal: this.#signal,
      ...(flags.loraName === undefined ? {} : { loraName: flags.loraName }),
      ...(settings.interval === undefined ? {} : { pollMs: settings.interval * 1000 }),
      ...(flags.timeoutIdle === undefined ? {} : { idleTimeoutMs: flags.timeoutIdle * 1000 }),
      onLog: (line: string) => monitor.say(printable(line)),
      onWithdrawn: () => monitor.ended(),
      onUpdated: (announcement: Announcement, adapters: ReadonlyMap<string, string>) =>
        this.#updated(announcement, adapters, engines()),
    };
  }

  #updated({ version, path }: Announcement, adapters: ReadonlyMap<string, string>, engines: number): void {
    const { flags, context, monitor } = this.#parts;
    const { out } = context.io;
    monitor.ended();
    this.#count(EXIT.ok);
    if (flags.json === true) {
      out.write(`${JSON.stringify({ version, path, adapters: Object.fromEntries(adapters) })}\n`);
    } else if (flags.quiet !== true) {
      const names = [...new Set(adapters.values())];
      const as = names.length === 0 ? '' : ` as ${names.map((name) => printable(name)).join(', ')}`;
      const what = paint(out.color, 'green', 'updated');
      out.write(`${what} to version ${version}${as}: ${count(engines, 'engine')}\n`);
    }
  }

  #failed({ version, path }: Announcement, error: unknown): void {
    const { flags, context, monitor } = this.#parts;
    this.#count(exitCodeOfError(error, monitor.signal.aborted));
    const report = reportOf(error);
    if (report === null || flags.json === true) monitor.failed(error, { version, path });
    else {
      monitor.ended();
      monitor.render(report, context.io.err);
    }
  }

  #count(code: number): void {
    this.code = code;
    this.#versions += 1;
    if (this.#versions >= (this.#parts.flags.maxUpdates ?? Number.POSITIVE_INFINITY)) this.#enough.abort();
  }
}

/** Where the trainer listens; null where it writes files. @throws WeightcastError WC_CONFIG_INVALID */
function groupOf(settings: Settings, flags: OrchestrateFlags): Group | null {
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
