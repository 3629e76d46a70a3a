import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { DeviceInfo } from '../../native.js';
import type { RuntimeOptions } from '../../transports/nccl/runtime.js';
import type { ErrorReport } from '../../update/types.js';

export interface Libraries {
  readonly cudaLibrary: string;
  readonly ncclLibrary: string;
  readonly ncclVersion: number;
  readonly cudaDriverVersion: number;
  readonly emulated: boolean;
  readonly devices: readonly (DeviceInfo & { readonly freeMemory: number })[];
}

export type ProbeMessage =
  | { readonly kind: 'step'; readonly step: string }
  | { readonly kind: 'found'; readonly libraries: Libraries }
  | { readonly kind: 'failed'; readonly error: ErrorReport };

/** How the probing ended; `step` is what it was doing when it crashed or hung. */
export type ProbeResult =
  | Exclude<ProbeMessage, { kind: 'step' }>
  | {
      readonly kind: 'crashed';
      readonly step: string;
      readonly how: string;
      /** The end of what it printed. */
      readonly output: string;
    }
  | { readonly kind: 'hung'; readonly step: string; readonly afterMs: number };

export interface ProbeSettings {
  readonly timeoutMs: number;
  /** Stands in for the probing program, for tests. */
  readonly program?: string;
}

const PROGRAM = fileURLToPath(new URL('./probe.js', import.meta.url));
const OUTPUT_LIMIT = 4000;

/** Loads the libraries in a process of its own, to a deadline; never throws. */
export function probeLibraries(options: RuntimeOptions, settings: ProbeSettings): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const child = fork(settings.program ?? PROGRAM, [JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    let step = 'starting';
    let output = '';
    let result: ProbeResult | null = null;
    const timer = setTimeout(() => {
      resolve(result ?? { kind: 'hung', step, afterMs: settings.timeoutMs });
      child.kill('SIGKILL');
      // A process that hangs inside the driver can't even be killed: don't wait for it.
      child.unref();
      child.stdout?.destroy();
      child.stderr?.destroy();
      if (child.connected) child.disconnect();
    }, settings.timeoutMs);
    const collect = (chunk: Buffer) => {
      output = `${output}${chunk.toString('utf8')}`.slice(-OUTPUT_LIMIT);
    };
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    child.on('message', (message: ProbeMessage) => {
      if (message.kind === 'step') step = message.step;
      else result ??= message;
    });
    child.on('error', (error) => {
      result ??= { kind: 'crashed', step, how: error.message, output };
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const how = signal === null ? `exit code ${code}` : signal;
      resolve(result ?? { kind: 'crashed', step, how, output });
    });
  });
}
