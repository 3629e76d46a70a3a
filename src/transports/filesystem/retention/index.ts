/** Removing published versions. */
export type { KeepReason } from './decide.js';
export { type PruneOptions, type PruneReport, prune } from './prune.js';
