/** What a manifest says; manifest.ts writes and reads it. */

export interface ManifestTensor {
  /** Checkpoint (Hugging Face) name. */
  readonly name: string;
  /** Name in a safetensors header. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Hexadecimal; null when the version was published without digests. */
  readonly sha256: string | null;
}

export interface PlacedTensor extends ManifestTensor {
  /** Bytes from the beginning of the file. */
  readonly offset: number;
}

/** A safetensors file. Its tensors follow the header and one another without a hole, to the end of the file. */
export interface ManifestShard {
  readonly name: string;
  /** Size of the whole file. */
  readonly byteLength: number;
  /** The length prefix and the JSON: where the first tensor begins. */
  readonly headerByteLength: number;
  readonly headerSha256: string;
  /** In the order of their bytes. */
  readonly tensors: readonly PlacedTensor[];
}

/** Any other file of the version. */
export interface ManifestFile {
  readonly name: string;
  readonly byteLength: number;
  readonly sha256: string;
}

export interface Manifest {
  readonly version: number;
  readonly kind: 'full' | 'delta' | 'adapter';
  /** Identity of the weights, see version-digest.ts; null when the version was published without digests. */
  readonly digest: string | null;
  /** What a delta applies to; null for the others. */
  readonly base: { readonly version: number; readonly digest: string } | null;
  readonly digestAlgorithm: 'sha256' | 'none';
  /** Bytes of all tensors; of a delta, after applying it. */
  readonly totalBytes: number;
  /** ISO 8601. */
  readonly created: string;
  readonly publisher: {
    /** 16 hexadecimal digits, other ones for every publication. */
    readonly nonce: string;
    readonly host: string;
    readonly pid: number;
    /** Version of weightcast. */
    readonly weightcast: string;
  };
  /** None in a delta. */
  readonly shards: readonly ManifestShard[];
  readonly files: readonly ManifestFile[];
  /** Of a delta: all tensors of the version that it makes, with their digests after applying it. Null for the others: their shards say it. */
  readonly tensors: readonly ManifestTensor[] | null;
}

/** The tensors of a version, whatever its kind. */
export function tensorsOfManifest({ shards, tensors }: Manifest): readonly ManifestTensor[] {
  return tensors ?? shards.flatMap((shard) => shard.tensors);
}
