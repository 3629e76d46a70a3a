/** Deltas between versions: what changed, encoded, and put on again. */
export { applyDelta } from './apply.js';
export { publishDelta } from './publish.js';
