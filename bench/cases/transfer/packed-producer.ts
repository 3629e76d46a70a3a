/** vLLM's own Python sender, from the CPU wheel that the peer lanes use. */
import { join } from 'node:path';
import { emulatorLibraries } from '#weightcast/native.js';
import type { Checkpoint } from '#weightcast/weights/checkpoint.js';
import { tryPython, vllmPackages } from '../../../test/peers/support/venv.js';
import type { CaseContext } from '../../case.js';
import { repository } from '../../harness/compile.js';
import type { Sender } from './contestant.js';

const VERSION = '0.32.0';

/** Null, and said why, where the wheel can't be had. */
export async function packedProducer(
  context: CaseContext,
  options: {
    readonly worldSize: string;
    readonly bufferBytes: number;
    /** Names of the tensors as they are to be sent. */
    readonly order: readonly string[];
    readonly checkpoint: Checkpoint;
  },
): Promise<{ readonly name: string; readonly sender: Sender } | null> {
  const { environment, why } = await tryPython(vllmPackages(VERSION));
  if (environment === null) {
    context.log(`vLLM ${VERSION} can't be had, so its sender is not measured: ${why}`);
    return null;
  }
  const places = new Map(options.checkpoint.tensors.map(({ name, range }) => [name, range]));
  const input = options.order.map((name) => {
    const range = places.get(name);
    if (range?.kind !== 'file') throw new Error(`${name} is in no file`);
    return [name, range.path];
  });
  return {
    name: `vLLM ${VERSION}, packed producer`,
    sender: {
      command: environment.python,
      args: [
        join(repository, 'bench/peers/packed_sender.py'),
        emulatorLibraries.nccl,
        options.worldSize,
        String(options.bufferBytes),
        join(repository, 'test/peers/support/plugin'),
      ],
      env: {
        VLLM_NO_USAGE_STATS: '1',
        HF_HUB_OFFLINE: '1',
        VLLM_LOGGING_LEVEL: 'ERROR',
        OMP_NUM_THREADS: '1',
        // malloc keeps what is freed, as torch's allocator of device memory does: it would else take fresh pages for every chunk.
        MALLOC_MMAP_THRESHOLD_: '4294967296',
        MALLOC_TRIM_THRESHOLD_: '8589934592',
      },
      input: JSON.stringify(input),
    },
  };
}
