/** Files of a delta's folder, beside the small files of the model that changed. */
import { WeightcastError } from '../../../errors.js';
import type { Manifest, ManifestFile } from '../manifest.js';

/** For people; readers go by the manifest. */
export const DELTA_NOTE_NAME = 'weightcast-delta.json';
const SUFFIX = '.wcdelta';

export function deltaName(nonce: string | null): string {
  return nonce === null ? `changes${SUFFIX}` : `changes-${nonce}${SUFFIX}`;
}

/** @throws WeightcastError WC_DELTA_INVALID */
export function deltaFileOf({ files, version }: Manifest): ManifestFile {
  const found = files.filter(({ name }) => name.endsWith(SUFFIX));
  if (found.length === 1) return found[0] as ManifestFile;
  throw new WeightcastError(
    'WC_DELTA_INVALID',
    `step_${version}: ${found.length} files with changes in its manifest, not one`,
  );
}
