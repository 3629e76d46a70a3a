/** Publishing versions of weights into a directory. */
export type { CommitMode } from './draft.js';
export { type Publication, type PublishOptions, publish } from './publish.js';
export type { PublishSource, WeightSource } from './source.js';
