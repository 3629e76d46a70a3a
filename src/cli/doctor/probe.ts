/**
 * The process in which doctor loads the addon, libcuda and libnccl: what crashes or hangs here is reported by its parent.
 * Takes {@link ProbeOptions} as JSON and tells over IPC what it is about to do, then what it found.
 */
import { native } from '../../native.js';
import { openRuntime, type RuntimeOptions } from '../../transports/nccl/runtime.js';
import { errorReport } from '../outcome.js';
import type { ProbeMessage } from './child.js';

// Waits until the message has left: a crash must not swallow the step that caused it.
const tell = (message: ProbeMessage) =>
  new Promise<void>((resolve, reject) => {
    process.send?.(message, undefined, {}, (error) => (error === null ? resolve() : reject(error)));
  });

async function probe(options: RuntimeOptions): Promise<void> {
  await tell({ kind: 'step', step: 'loading the addon' });
  native();
  await tell({ kind: 'step', step: 'opening libcuda and libnccl' });
  const runtime = await openRuntime(options);
  await tell({ kind: 'step', step: 'listing the devices' });
  const devices = runtime.devices();
  await tell({ kind: 'step', step: 'asking for free device memory' });
  const memory = await Promise.all(devices.map(({ index }) => runtime.memory(index)));
  const { cudaLibrary, ncclLibrary, ncclVersion, cudaDriverVersion, emulated } = runtime;
  await tell({
    kind: 'found',
    libraries: {
      cudaLibrary,
      ncclLibrary,
      ncclVersion,
      cudaDriverVersion,
      emulated,
      devices: devices.map((device, index) => ({ ...device, freeMemory: memory[index]?.free ?? 0 })),
    },
  });
}

try {
  await probe(JSON.parse(process.argv[2] ?? '') as RuntimeOptions);
} catch (error) {
  await tell({ kind: 'failed', error: errorReport(error) });
}
process.exit(0);
