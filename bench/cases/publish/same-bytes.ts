/** Whether two folders hold the same tensors: names and SHA-256 of their bytes, whatever the files and dtypes are called. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { native } from '#weightcast/native.js';
import { readSafetensorsHeader } from '#weightcast/weights/safetensors.js';

export async function shardsOf(folder: string): Promise<string[]> {
  const names = await readdir(folder);
  return names
    .filter((name) => name.endsWith('.safetensors'))
    .sort()
    .map((name) => join(folder, name));
}

/** One line a tensor, sorted. */
export async function digestsOf(folder: string): Promise<string> {
  const files = await shardsOf(folder);
  const headers = await Promise.all(files.map((path) => readSafetensorsHeader(path)));
  const tensors = headers.flatMap(({ tensors }, file) => tensors.map((tensor) => ({ ...tensor, file })));
  const bytes = await native().sha256(
    {
      files,
      segmentFile: Uint32Array.from(tensors, ({ file }) => file),
      segmentOffset: Float64Array.from(tensors, ({ range }) => (range.kind === 'file' ? range.offset : 0)),
      segmentBlockBytes: Float64Array.from(tensors, ({ range }) => range.byteLength),
      segmentStrideBytes: Float64Array.from(tensors, ({ range }) => range.byteLength),
      segmentBlocks: new Float64Array(tensors.length).fill(1),
      digestSegments: new Uint32Array(tensors.length).fill(1),
      threads: 0,
    },
    null,
  ).result;
  return tensors
    .map(({ name }, i) => `${name} ${Buffer.from(bytes.subarray(i * 32, i * 32 + 32)).toString('hex')}`)
    .sort()
    .join('\n');
}
