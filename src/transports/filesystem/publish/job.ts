/** Planned shards as the native writer takes them, and what it gives back. */
import { WeightcastError } from '../../../errors.js';
import type { NativeDeviceBuffer, WriteJob } from '../../../native.js';
import type { CheckpointFile } from '../../../weights/checkpoint.js';
import type { Steps } from '../../../weights/yielding.js';
import type { ManifestShard } from '../manifest.js';
import type { PlannedShard } from './plan.js';

const FILE = 0;
const DEVICE = 1;
const HOST = 2;
const DIGEST_BYTES = 32;
const RANGES_PER_STEP = 1024;

export interface JobOptions {
  /** Files that tensors lie in, with the sizes that they must have. */
  readonly files: readonly Pick<CheckpointFile, 'path' | 'byteLength'>[];
  /** Where each shard is written. */
  readonly targets: readonly string[];
  readonly digest: boolean;
  readonly sync: boolean;
}

/** One target a shard; its ranges are the header, then each tensor, so that each has its digest. */
export function* writeJobSteps(
  shards: readonly PlannedShard[],
  { files, targets, digest, sync }: JobOptions,
): Steps<WriteJob> {
  const count = shards.reduce((sum, { tensors }) => sum + 1 + tensors.length, 0);
  const rangeKind = new Uint8Array(count);
  const rangeSource = new Uint32Array(count);
  const rangeOffset = new Float64Array(count);
  const rangeLength = new Float64Array(count);
  const fileIndex = new Map(files.map(({ path }, index) => [path, index]));
  const devices = new Map<object, number>();
  const host: Uint8Array[] = [];
  let hostBytes = 0;
  let next = 0;
  const add = (kind: number, source: number, offset: number, length: number) => {
    rangeKind[next] = kind;
    rangeSource[next] = source;
    rangeOffset[next] = offset;
    rangeLength[next++] = length;
  };
  const addHost = (bytes: Uint8Array, length: number) => {
    add(HOST, 0, hostBytes, length);
    host.push(bytes.subarray(0, length));
    hostBytes += length;
  };
  for (const { header, tensors } of shards) {
    addHost(header, header.length);
    for (const { tensor } of tensors) {
      const { range } = tensor;
      if (range.kind === 'file') {
        const index = fileIndex.get(range.path);
        if (index === undefined) throw unknownFile(tensor.name, range.path);
        add(FILE, index, range.offset, range.byteLength);
      } else if (range.kind === 'device') {
        if (!devices.has(range.buffer)) devices.set(range.buffer, devices.size);
        add(DEVICE, devices.get(range.buffer) as number, range.offset, range.byteLength);
      } else {
        addHost(range.bytes, range.byteLength);
      }
      if (next % RANGES_PER_STEP === 0) yield;
    }
  }
  return {
    files: files.map(({ path }) => path),
    fileSizes: Float64Array.from(files, ({ byteLength }) => byteLength),
    ...{ rangeKind, rangeSource, rangeOffset, rangeLength },
    deviceBuffers: [...devices.keys()] as NativeDeviceBuffer[],
    hostBytes: Buffer.concat(host),
    targets,
    targetRanges: Uint32Array.from(shards, ({ tensors }) => 1 + tensors.length),
    ...{ digest, sync },
    threads: 0,
  };
}

/** @param digests of the header and each tensor of each shard, in the order of {@link writeJobSteps}; empty without digests */
export function* manifestShards(
  shards: readonly PlannedShard[],
  names: readonly string[],
  digests: Uint8Array,
  headerDigest: (header: Buffer) => string,
): Steps<ManifestShard[]> {
  const bytes = Buffer.from(digests.buffer, digests.byteOffset, digests.byteLength);
  let next = 0;
  const digest = (): string | null => {
    const at = DIGEST_BYTES * next++;
    return bytes.length === 0 ? null : bytes.toString('hex', at, at + DIGEST_BYTES);
  };
  const made: ManifestShard[] = [];
  for (const [index, { header, byteLength, tensors }] of shards.entries()) {
    const headerSha256 = digest() ?? headerDigest(header);
    const placed: ManifestShard['tensors'][number][] = [];
    for (const { tensor, offset } of tensors) {
      const { name, dtype, shape, range } = tensor;
      placed.push({ name, dtype: dtype.name, shape, byteLength: range.byteLength, offset, sha256: digest() });
      if (next % RANGES_PER_STEP === 0) yield;
    }
    const name = names[index] as string;
    made.push({ name, byteLength, headerByteLength: header.length, headerSha256, tensors: placed });
  }
  return made;
}

function unknownFile(name: string, path: string): WeightcastError {
  return new WeightcastError(
    'WC_CONFIG_INVALID',
    `tensor ${name} lies in ${path}, which the source does not list`,
    {
      remedy: 'Give every file in `files`, as openCheckpoint does.',
    },
  );
}
