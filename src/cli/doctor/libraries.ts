/** What the probing of the libraries means. */
import { existsSync } from 'node:fs';
import { emulatorLibraries } from '../../native.js';
import type { RuntimeOptions } from '../../transports/nccl/runtime.js';
import { size } from '../format.js';
import { EMULATED, ncclVersion } from '../summary.js';
import { type Libraries, type ProbeResult, type ProbeSettings, probeLibraries } from './child.js';
import { type Finding, finding } from './finding.js';

export interface LibraryOptions extends RuntimeOptions {
  /** Whether a push with these options would need NCCL. */
  readonly needed: boolean;
  readonly device: number;
}

export interface LibraryCheck {
  readonly libraries: Libraries | null;
  /** NCCL where libcuda is missing, seen through the emulated libcuda: version and path only. */
  readonly ncclWithoutCuda: { readonly version: number; readonly library: string } | null;
  readonly emulator: boolean;
  readonly findings: readonly Finding[];
}

/** Probes the libraries that a push would use, and the emulated ones. */
export async function checkLibraries(
  options: LibraryOptions,
  settings: ProbeSettings,
): Promise<LibraryCheck> {
  const emulated = existsSync(emulatorLibraries.cuda) && existsSync(emulatorLibraries.nccl);
  const runtime = {
    emulate: options.emulate,
    cudaLibrary: options.cudaLibrary,
    ncclLibrary: options.ncclLibrary,
  };
  const [chosen, emulator] = await Promise.all([
    probeLibraries(runtime, settings),
    emulated && !options.emulate
      ? probeLibraries({ emulate: true, cudaLibrary: null, ncclLibrary: null }, settings)
      : null,
  ]);
  const withoutCuda = emulated && lacksCuda(chosen) ? await ncclAlone(options, settings) : null;
  return {
    libraries: chosen.kind === 'found' ? chosen.libraries : null,
    ncclWithoutCuda: withoutCuda,
    emulator: (options.emulate ? chosen : emulator)?.kind === 'found',
    findings: [
      ...judge(chosen, options),
      ...(withoutCuda === null
        ? []
        : [finding('note', 'nccl', `${ncclVersion(withoutCuda.version)} at ${withoutCuda.library}`)]),
      ...judgeEmulator(emulator, emulated, options.emulate),
    ],
  };
}

function lacksCuda(result: ProbeResult): boolean {
  return result.kind === 'failed' && /^WC_CUDA_/.test(result.error.code);
}

/** libnccl loads without a driver: the emulated libcuda lets its version be read. */
async function ncclAlone({ ncclLibrary }: LibraryOptions, settings: ProbeSettings) {
  const result = await probeLibraries(
    { emulate: false, cudaLibrary: emulatorLibraries.cuda, ncclLibrary },
    settings,
  );
  if (result.kind !== 'found') return null;
  return { version: result.libraries.ncclVersion, library: result.libraries.ncclLibrary };
}

function judge(result: ProbeResult, options: LibraryOptions): Finding[] {
  const bad = options.needed ? 'wrong' : 'note';
  switch (result.kind) {
    case 'found':
      return judgeFound(result.libraries, options);
    case 'failed': {
      const { code, message, remedy } = result.error;
      // Without the addon there are no digests either, whatever the transport.
      if (code === 'WC_ADDON_NOT_FOUND') return [finding('wrong', 'addon', message, remedy)];
      return [finding('ok', 'addon', 'loads'), finding(bad, 'libraries', message, remedy)];
    }
    case 'crashed': {
      const output = result.output.trim() === '' ? '' : `; it printed: ${result.output.trim()}`;
      const text = `the process crashed (${result.how}) while ${result.step}${output}`;
      return [finding('wrong', 'libraries', text, 'Update the driver or NCCL, or pass other libraries.')];
    }
    case 'hung': {
      const text = `no answer within ${result.afterMs / 1000} s while ${result.step}`;
      return [finding('wrong', 'libraries', text, 'Look at nvidia-smi and dmesg: the driver may be stuck.')];
    }
  }
}

function judgeFound(found: Libraries, { device, needed }: LibraryOptions): Finding[] {
  const driver = `${Math.floor(found.cudaDriverVersion / 1000)}.${(found.cudaDriverVersion % 1000) / 10}`;
  const findings = [
    finding('ok', 'addon', 'loads'),
    finding('ok', 'cuda', `driver API ${driver} at ${found.cudaLibrary}`),
    finding('ok', 'nccl', `${ncclVersion(found.ncclVersion)} at ${found.ncclLibrary}`),
    ...devices(found),
  ];
  if (needed && !found.devices.some(({ index }) => index === device)) {
    const text = `device ${device} is not among the ${found.devices.length} that the driver shows`;
    findings.push(finding('wrong', 'device', text, 'Pass --device N, or check CUDA_VISIBLE_DEVICES.'));
  }
  if (found.emulated) findings.push(finding('warning', 'libraries', EMULATED));
  return findings;
}

/** One line for devices that are alike, which emulated ones are. */
function devices({ devices: all }: Libraries): Finding[] {
  const alike = new Map<string, number[]>();
  for (const { index, name, totalMemory, freeMemory } of all) {
    const text = `${name}, ${size(freeMemory)} free of ${size(totalMemory)}`;
    alike.set(text, [...(alike.get(text) ?? []), index]);
  }
  return [...alike].map(([text, indexes]) =>
    finding('ok', indexes.length === 1 ? `device ${indexes[0]}` : `devices ${ranges(indexes)}`, text),
  );
}

/** [0, 1, 2, 5] is '0-2, 5'. */
function ranges(indexes: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const index of indexes) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] === index - 1) last[1] = index;
    else runs.push([index, index]);
  }
  return runs.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ');
}

function judgeEmulator(result: ProbeResult | null, built: boolean, chosen: boolean): Finding[] {
  if (!built) {
    const text = `not built: ${emulatorLibraries.cuda} or ${emulatorLibraries.nccl} is missing`;
    return [finding(chosen ? 'wrong' : 'note', 'emulator', text, 'npm run build:native')];
  }
  if (result === null) return [];
  if (result.kind === 'found') return [finding('ok', 'emulator', 'loads; --emulate selects it')];
  const why = result.kind === 'failed' ? result.error.message : `${result.kind} while ${result.step}`;
  return [finding('warning', 'emulator', `does not load: ${why}`, 'npm run build:native')];
}
