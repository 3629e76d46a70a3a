/** Whether two folders hold the same tensors: names and SHA-256 of their bytes, whatever the files and dtypes are called. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { native } from '#weightcast/native.js';
import { digestAt } from '#weightcast/native-job.js';
import { rangesJob } from '#weightcast/weights/ranges-job.js';
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
  const headers = await Promise.all((await shardsOf(folder)).map((path) => readSafetensorsHeader(path)));
  const tensors = headers.flatMap((header) => header.tensors);
  const ranges = tensors.flatMap(({ range }) => (range.kind === 'file' ? [range] : []));
  const bytes = await native().sha256(rangesJob(ranges), null).result;
  return tensors
    .map(({ name }, i) => `${name} ${digestAt(bytes, i)}`)
    .sort()
    .join('\n');
}
