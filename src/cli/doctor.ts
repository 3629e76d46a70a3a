/** `weightcast doctor`: what was found, what is wrong, what to do. */
import { arch, release } from 'node:os';
import { fleetOptions, type Settings } from '../config.js';
import { createHttpClient } from '../engines/http.js';
import { lookAtRecords } from '../update/claim/records.js';
import { resolveSettings as resolveFleet } from '../update/settings.js';
import { packageVersion } from '../version.js';
import type { CommandContext } from './context.js';
import { checkEngine, type EngineCheck } from './doctor/engines.js';
import { type Finding, finding, renderFindings } from './doctor/finding.js';
import { checkLibraries } from './doctor/libraries.js';
import { lookUp } from './doctor/members.js';
import { type FleetFlags, resolveSettings } from './options.js';

const LIBRARY_DEADLINE_MS = 30_000;

/** Looks at this machine and at the engines; 0 when nothing is wrong, else 1. */
export async function doctor(flags: FleetFlags, { io }: CommandContext): Promise<number> {
  const settings = await resolveSettings(flags);
  const nccl = settings.transport !== 'filesystem';
  const [libraries, { engines, findings: found }] = await Promise.all([
    checkLibraries(
      {
        needed: nccl && settings.fallback !== 'filesystem',
        emulate: settings.emulate ?? false,
        cudaLibrary: settings.cuda_library ?? null,
        ncclLibrary: settings.nccl_library ?? null,
        device: settings.device ?? 0,
      },
      { timeoutMs: LIBRARY_DEADLINE_MS },
    ),
    checkEngines(settings, io.env),
  ]);
  const findings = [
    judgeNode(process.versions.node),
    ...libraries.findings,
    ...found,
    ...engines.flatMap((engine) => engine.findings),
    ...judgeFleet(engines),
  ];
  const ok = findings.every(({ verdict }) => verdict !== 'wrong');
  if (flags.json === true) {
    const report = {
      ok,
      weightcast: packageVersion(),
      node: process.versions.node,
      platform: `${process.platform} ${release()} ${arch()}`,
      libraries: libraries.libraries,
      ncclWithoutCuda: libraries.ncclWithoutCuda,
      emulator: libraries.emulator,
      engines: engines.map(({ findings: _, ...facts }) => facts),
      findings,
    };
    io.out.write(`${JSON.stringify(report, null, 2)}\n`);
  } else if (flags.quiet !== true || !ok) {
    const shown = flags.quiet === true ? findings.filter(({ verdict }) => verdict === 'wrong') : findings;
    io.out.write(renderFindings(shown, io.out.color));
  }
  return ok ? 0 : 1;
}

interface EngineChecks {
  readonly engines: readonly EngineCheck[];
  /** Of the looking for them. */
  readonly findings: readonly Finding[];
}

async function checkEngines(settings: Settings, env: CommandContext['io']['env']): Promise<EngineChecks> {
  const { engine = [], discover = [], elastic = [] } = settings;
  if (engine.length + discover.length + elastic.length === 0) return { engines: [], findings: [] };
  const fleet = resolveFleet(fleetOptions(settings, env));
  const { targets, findings } = await lookUp(fleet);
  const records = fleet.state === null ? [] : await lookAtRecords(fleet.state);
  await using http = createHttpClient({ retry: { attempts: 1 } });
  const { transport } = fleet;
  const options = { transport, timeoutMs: fleet.timeouts.probe, records };
  const engines = await Promise.all(targets.map((target) => checkEngine(http, target, options)));
  return { engines, findings };
}

/** The range of package.json's `engines`. */
export function judgeNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const fits = (major === 20 && minor >= 19) || (major === 22 && minor >= 13) || major >= 24;
  if (fits) return finding('ok', 'node', version);
  return finding(
    'wrong',
    'node',
    `${version} is not supported`,
    'Use Node 20.19, 22.13 or 24, or later in these lines.',
  );
}

function judgeFleet(engines: readonly EngineCheck[]): Finding[] {
  const versions = new Set(engines.flatMap(({ version }) => (version === null ? [] : [version])));
  if (versions.size <= 1) return [];
  return [finding('note', 'fleet', `engines of different versions: ${[...versions].join(', ')}`)];
}
