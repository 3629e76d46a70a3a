/** A checkpoint directory, as a worker loads it. */
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../../errors.js';
import { type Checkpoint, openCheckpoint } from '../../weights/checkpoint.js';
import { WorkerError } from '../server/transfer-info.js';
import type { CheckpointTensor } from './layout.js';
import type { Parameters } from './parameters.js';

export interface ModelConfig {
  readonly architecture: string;
  readonly tiedEmbeddings: boolean;
}

/** config.json, as far as loading needs it; a directory without one is taken for a Qwen3. */
export async function readConfig(directory: string): Promise<ModelConfig> {
  const text = await readFile(join(directory, 'config.json'), 'utf8').catch(() => '{}');
  const config = JSON.parse(text) as Record<string, unknown>;
  const architectures = config.architectures;
  const first: unknown = Array.isArray(architectures) ? architectures[0] : undefined;
  return {
    architecture: typeof first === 'string' ? first : 'Qwen3ForCausalLM',
    tiedEmbeddings: config.tie_word_embeddings === true,
  };
}

/** Opens a directory with vLLM's words for one that is missing or has no weights. */
export async function openModel(directory: string): Promise<Checkpoint> {
  const exists = await stat(directory).then(
    (status) => status.isDirectory(),
    () => false,
  );
  if (!exists) {
    throw new WorkerError(
      `Repo id must be in the form 'repo_name' or 'namespace/repo_name': '${directory}'. Use \`repo_type\` argument if needed.`,
    );
  }
  try {
    return await openCheckpoint(directory);
  } catch (error) {
    throw new WorkerError(
      hasCode(error, 'WC_CHECKPOINT_NOT_FOUND')
        ? `Cannot find any model weights with \`${directory}\``
        : String((error as Error).message),
    );
  }
}

export function tensorsOf(checkpoint: Checkpoint): CheckpointTensor[] {
  return checkpoint.tensors.map(({ name, dtype, shape }) => {
    if (dtype.torchName === null) {
      throw new WorkerError(`torch has no type for ${name} (${dtype.name})`);
    }
    return { name, dtypeName: dtype.torchName, itemSize: Math.max(dtype.bits / 8, 1), shape };
  });
}

/** Copies every tensor of a checkpoint into the parameters. */
export async function loadModel(checkpoint: Checkpoint, parameters: Parameters): Promise<void> {
  const reader = new FileReader();
  const files = new Map<string, FileHandle>();
  try {
    for (const { path } of checkpoint.files) {
      files.set(path, await open(path, 'r'));
    }
    for (const { name, dtype, shape, range } of checkpoint.tensors) {
      const file = range.kind === 'file' ? files.get(range.path) : undefined;
      if (range.kind !== 'file' || file === undefined) {
        throw new WorkerError(`${name} is not in a file`);
      }
      parameters.requireLoadable(name, dtype.torchName ?? '', shape);
      await parameters.store(name, (offset, byteLength) =>
        reader.read(file, range.offset + offset, byteLength),
      );
    }
  } finally {
    await Promise.all([...files.values()].map((file) => file.close()));
  }
}

/** Reads into the same memory again and again: fresh memory costs more than the copy. */
class FileReader {
  #memory = Buffer.alloc(0);

  async read(file: FileHandle, position: number, byteLength: number): Promise<Uint8Array> {
    if (this.#memory.length < byteLength) {
      this.#memory = Buffer.allocUnsafe(byteLength);
    }
    const bytes = this.#memory.subarray(0, byteLength);
    await fill(file, position, bytes);
    return bytes;
  }
}

async function fill(file: FileHandle, position: number, bytes: Buffer): Promise<void> {
  let filled = 0;
  while (filled < bytes.length) {
    const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, position + filled);
    if (bytesRead === 0) {
      throw new WorkerError('Error while deserializing header: incomplete metadata, file not fully covered');
    }
    filled += bytesRead;
  }
}
