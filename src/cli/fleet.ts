/** `weightcast fleet`: who belongs to a fleet, and in which state; nothing is changed. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fleetOptions } from '../config.js';
import { createHttpClient } from '../engines/http.js';
import type { ElasticPool, EngineView } from '../fleet/elastic/pool.js';
import { openMembership } from '../update/membership.js';
import { openPool } from '../update/session-pool.js';
import { resolveSettings as resolveFleet } from '../update/settings.js';
import type { CommandContext } from './context.js';
import { paint, printable } from './format.js';
import type { Io } from './io.js';
import { Monitor } from './monitor.js';
import { type FleetFlags, resolveSettings } from './options.js';
import { EXIT } from './outcome.js';

export interface FleetCommandFlags extends FleetFlags {
  readonly watch?: boolean;
  readonly prometheus?: boolean;
}

const DEFAULT_INTERVAL_SECONDS = 5;

/** 0 when every engine is ready, 1 when one is not, none was found or versions differ; with --watch 0 at Ctrl-C. */
export async function fleet(flags: FleetCommandFlags, context: CommandContext): Promise<number> {
  const settings = await resolveSettings(flags);
  const options = resolveFleet(fleetOptions(settings, context.io.env));
  using monitor = new Monitor({ ...context, flags });
  const { signal } = monitor;
  const membership = openMembership(options);
  await using http = createHttpClient({ retry: { attempts: 1 } });
  try {
    await using pool = openPool(options, membership, { sync: null, http });
    signal.addEventListener('abort', () => void pool.close(), { once: true });
    const intervalMs = (settings.interval ?? settings.sync_interval ?? DEFAULT_INTERVAL_SECONDS) * 1000;
    let before = '';
    do {
      await pool.look();
      if (signal.aborted) break;
      const text = render(pool, flags, context.io);
      // Only what is new is worth a line.
      if (text !== before) context.io.out.write(text);
      before = text;
      if (flags.watch === true) await sleep(intervalMs, undefined, { signal }).catch(() => {});
    } while (flags.watch === true && !signal.aborted);
    if (signal.aborted) return flags.watch === true ? EXIT.ok : EXIT.interrupted;
    return isWhole(pool) ? EXIT.ok : EXIT.failed;
  } finally {
    await membership?.close();
  }
}

function isWhole(pool: ElasticPool): boolean {
  const { engines, unusable } = pool;
  const ready = engines.length > 0 && engines.every(({ state }) => state === 'ready');
  return ready && troublesOf(pool).length === 0 && unusable.every(({ mayServe }) => !mayServe);
}

/** Sources that could not be asked, and what no single engine shows: this process has updated nobody, so it knows no version that should be there. */
function troublesOf({ troubles, engines }: ElasticPool): readonly string[] {
  const mixed = mixedVersions(engines);
  return mixed === null ? troubles : [...troubles, mixed];
}

/** Pure: what is said of engines that name different weight versions; null while they don't. */
export function mixedVersions(engines: readonly Pick<EngineView, 'url' | 'weightVersion'>[]): string | null {
  const first = new Map<string, string>();
  for (const { url, weightVersion } of engines) {
    if (weightVersion !== null && !first.has(weightVersion)) first.set(weightVersion, url);
  }
  if (first.size <= 1) return null;
  const named = [...first].slice(0, 4).map(([version, url]) => `${version} (${url})`);
  const more = first.size > named.length ? ` and ${first.size - named.length} more` : '';
  return `the engines say different weight versions: ${named.join(', ')}${more}; push one with --weight-version to all`;
}

function render(pool: ElasticPool, flags: FleetCommandFlags, { out }: Io): string {
  const { engines, unusable, readyUrls } = pool;
  const troubles = troublesOf(pool);
  if (flags.prometheus === true) return pool.prometheus();
  if (flags.json === true) {
    return `${JSON.stringify({ engines, unusable, troubles, readyUrls, metrics: pool.metrics() })}\n`;
  }
  if (flags.quiet === true) return '';
  const ready = engines.filter(({ state }) => state === 'ready').length;
  const lines = [`${ready} of ${engines.length} engines ready`, ...engineRows(engines, out.color)];
  for (const { what, why } of unusable) lines.push(`  unusable  ${printable(what)}: ${printable(why)}`);
  for (const trouble of troubles)
    lines.push(`  ${paint(out.color, 'red', 'trouble')}   ${printable(trouble)}`);
  if (readyUrls.length > 0) lines.push(`  requests  ${readyUrls.map((url) => printable(url)).join(', ')}`);
  return `${lines.join('\n')}\n`;
}

const COLORS = {
  ready: 'green',
  quarantined: 'red',
  unhealthy: 'red',
  discovering: 'yellow',
  syncing: 'yellow',
} as const;

function engineRows(engines: readonly EngineView[], color: boolean): string[] {
  const widest = Math.max(...engines.map(({ url }) => url.length), 0);
  return engines.map(({ url, state, backend, workers, weightVersion, identity, reason }) => {
    const facts = [
      backend,
      workers === null ? null : `${workers} ${workers === 1 ? 'worker' : 'workers'}`,
      weightVersion === null ? null : `version ${weightVersion}`,
      identity,
      reason,
    ].filter((fact) => fact !== null);
    const name = paint(color, COLORS[state], state.padEnd(11));
    return `  ${name} ${printable(url).padEnd(widest)}  ${facts.map((fact) => printable(fact)).join(', ')}`;
  });
}
