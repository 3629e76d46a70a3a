/** Reading published versions. */
export type { Manifest, ManifestFile, ManifestShard, ManifestTensor, PlacedTensor } from '../manifest.js';
export { listPublished, type PublishedEntry } from './list.js';
export {
  type OpenPublishedOptions,
  openPublished,
  type PublishedVersion,
  type VerifyAmount,
} from './open.js';
