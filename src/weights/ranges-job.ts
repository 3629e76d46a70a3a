import { join } from 'node:path';
import type { HashJob } from '../native.js';
import type { FileRange } from './tensor.js';

/** The addon's job for ranges of files: one digest a range, in order. Paths are relative to `folder`, where one is given. */
export function rangesJob(ranges: readonly Omit<FileRange, 'kind'>[], folder?: string): HashJob {
  const files = [...new Set(ranges.map(({ path }) => path))];
  const indices = new Map(files.map((path, index) => [path, index]));
  const sizes = Float64Array.from(ranges, ({ byteLength }) => byteLength);
  return {
    files: folder === undefined ? files : files.map((path) => join(folder, path)),
    segmentFile: Uint32Array.from(ranges, ({ path }) => indices.get(path) ?? 0),
    segmentOffset: Float64Array.from(ranges, ({ offset }) => offset),
    segmentBlockBytes: sizes,
    segmentStrideBytes: sizes,
    segmentBlocks: new Float64Array(ranges.length).fill(1),
    digestSegments: new Uint32Array(ranges.length).fill(1),
    threads: 0,
  };
}
