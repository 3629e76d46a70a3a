/** Publications to prune, and what is in them afterwards. */
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MANIFEST_NAME, OWN_FOLDER } from '../../../../src/transports/filesystem/layout.js';
import { leaseFolder, leaseName } from '../../../../src/transports/filesystem/lease/place.js';
import { writeManifest } from '../../../../src/transports/filesystem/manifest.js';
import { listPublished } from '../../../../src/transports/filesystem/published/list.js';
import { readSafetensorsHeader } from '../../../../src/weights/safetensors.js';
import { manifestFor, publishSmall } from '../publication.js';

/** Of publishers and readers that a test makes up. */
export const NONCE = '00112233445566ff';
export const NOW = { graceMs: 0 };

export async function published(directory: string, ...versions: number[]): Promise<void> {
  for (const version of versions) await publishSmall(directory, version);
}

export const versionsOf = async (directory: string) =>
  (await listPublished(directory)).map(({ version }) => version).sort((a, b) => a - b);

/** What is in our folder, but for the leases. */
export const own = async (directory: string) =>
  (await readdir(join(directory, OWN_FOLDER))).filter((name) => name !== 'leases');

/** As a publisher leaves it where nothing can be renamed: its nonce is in the names. */
export async function publishInPlace(directory: string, version: number): Promise<string> {
  const step = await publishSmall(directory, version, { shards: 1 });
  const name = `model-${NONCE}-00001-of-00001.safetensors`;
  await rename(join(step, 'model.safetensors'), join(step, name));
  const { tensors } = await readSafetensorsHeader(join(step, name));
  const index = { weight_map: Object.fromEntries(tensors.map((tensor) => [tensor.name, name])) };
  await writeFile(join(step, 'model.safetensors.index.json'), JSON.stringify(index));
  await rm(join(step, MANIFEST_NAME));
  const manifest = await manifestFor(step, version);
  const publisher = { ...manifest.publisher, nonce: NONCE };
  await writeManifest(step, { ...manifest, publisher }, { sync: false });
  return step;
}

/** As a reader that nobody knows leaves it. */
export async function lease(directory: string, version: number): Promise<void> {
  await mkdir(leaseFolder(directory), { recursive: true });
  await writeFile(join(leaseFolder(directory), leaseName(version, NONCE)), '{}');
}
