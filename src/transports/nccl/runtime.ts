/** libcuda and libnccl of this process, opened once for each pair of paths. */
import { asWeightcastError, WeightcastError } from '../../errors.js';
import { emulatorLibraries, type NativeRuntime, native } from '../../native.js';
import { orLeave } from '../../waits.js';

export interface RuntimeOptions {
  readonly emulate: boolean;
  readonly cudaLibrary: string | null;
  readonly ncclLibrary: string | null;
}

/**
 * Opens the libraries off the event loop. The signal ends the wait for them, not what they do: a driver can hang.
 *
 * @throws WeightcastError WC_UPDATE_ABORTED, WC_NCCL_NOT_FOUND, WC_NCCL_TOO_OLD, WC_CUDA_NO_DRIVER, WC_CUDA_NO_DEVICE, WC_ADDON_NOT_FOUND, WC_CONFIG_INVALID
 */
export async function openRuntime(options: RuntimeOptions, signal?: AbortSignal): Promise<NativeRuntime> {
  if (options.emulate && (options.cudaLibrary !== null || options.ncclLibrary !== null)) {
    throw new WeightcastError('WC_CONFIG_INVALID', '--emulate selects both libraries itself', {
      remedy: 'Drop --emulate, or --cuda-library and --nccl-library.',
    });
  }
  try {
    const { cuda, nccl } = options.emulate
      ? emulatorLibraries
      : { cuda: options.cudaLibrary, nccl: options.ncclLibrary };
    return await orLeave(native().open(cuda, nccl), signal);
  } catch (error) {
    if (signal?.aborted) {
      throw new WeightcastError('WC_UPDATE_ABORTED', 'interrupted while CUDA and NCCL were opened', {
        phase: 'preflight',
        remedy: 'Nothing had begun: run the command again.',
        cause: error,
      });
    }
    throw withoutAdvice(asWeightcastError(error, 'WC_NCCL_FAILED', { phase: 'preflight' }));
  }
}

/** Below the places that it tried the addon says what to do, for those who call it alone; here the remedy does. */
function withoutAdvice(error: WeightcastError): WeightcastError {
  const message = error.message.replace(/(\n {2}.*)\n\S.*$/, '$1');
  if (message === error.message) return error;
  const { engine, phase, remedy, details } = error;
  return new WeightcastError(error.code, message, {
    engine: engine ?? undefined,
    phase: phase ?? undefined,
    remedy,
    details,
    cause: error.cause ?? error,
  });
}
