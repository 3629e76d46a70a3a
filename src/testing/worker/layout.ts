/**
 * Which bytes of a checkpoint one tensor-parallel worker holds, and under which names: vLLM's fused parameters and slices
 * (contracts/real-peers.md: fused parameters concatenate each part's r-th slice along dimension 0).
 */

export interface CheckpointTensor {
  readonly name: string;
  /** Attribute of torch: 'bfloat16' … */
  readonly dtypeName: string;
  /** bytes of one element */
  readonly itemSize: number;
  readonly shape: readonly number[];
}

/** A block of a checkpoint tensor (rows × columns, in bytes) and where it lies, packed, in a parameter. */
export interface Slice {
  readonly parameter: string;
  readonly targetOffset: number;
  readonly firstRow: number;
  readonly rows: number;
  /** Bytes of a whole row of the tensor. */
  readonly rowBytes: number;
  /** Byte range within each row. */
  readonly columnOffset: number;
  readonly columnBytes: number;
  /** Every worker holds these same bytes. */
  readonly replicated: boolean;
}

export interface Parameter {
  readonly name: string;
  readonly byteLength: number;
  /** Some bytes come from no tensor. */
  readonly padded: boolean;
}

export interface Layout {
  readonly parameters: readonly Parameter[];
  /** Tensor name → its block. Tensors that the model drops (a tied lm_head) are null. */
  readonly slices: ReadonlyMap<string, Slice | null>;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
}

const FUSED: readonly { readonly parts: readonly string[]; readonly into: string }[] = [
  { parts: ['q_proj', 'k_proj', 'v_proj'], into: 'qkv_proj' },
  { parts: ['gate_proj', 'up_proj'], into: 'gate_up_proj' },
];
const ROW_PARALLEL = /\.(o_proj|down_proj)\.weight$/;
const VOCABULARY = /(^|\.)(embed_tokens|lm_head)\.weight$/;
/** vLLM pads vocabularies to a multiple of this. */
const VOCABULARY_MULTIPLE = 64;

interface Placement {
  readonly parameter: string;
  /** Order among the parts of a fused parameter. */
  readonly part: number;
  readonly split: 'rows' | 'columns' | 'vocabulary' | 'none';
}

function placementOf(name: string): Placement {
  for (const { parts, into } of FUSED) {
    const part = parts.findIndex((item) => name.includes(`.${item}.`));
    if (part >= 0) {
      return { parameter: name.replace(`.${parts[part]}.`, `.${into}.`), part, split: 'rows' };
    }
  }
  const split = ROW_PARALLEL.test(name) ? 'columns' : VOCABULARY.test(name) ? 'vocabulary' : 'none';
  return { parameter: name, part: 0, split };
}

/** What worker `rank` of `size` holds. Throws when a dimension cannot be split evenly. */
export function layoutOf(
  tensors: readonly CheckpointTensor[],
  options: { readonly rank: number; readonly size: number; readonly tiedEmbeddings: boolean },
): Layout {
  const placed = tensors
    .map((tensor) => ({ tensor, placement: placementOf(tensor.name) }))
    .sort((a, b) => a.placement.part - b.placement.part);
  const slices = new Map<string, Slice | null>();
  const lengths = new Map<string, number>();
  for (const { tensor, placement } of placed) {
    if (options.tiedEmbeddings && tensor.name === 'lm_head.weight') {
      slices.set(tensor.name, null);
      continue;
    }
    const targetOffset = lengths.get(placement.parameter) ?? 0;
    const { slice, heldBytes } = sliceOf(tensor, placement, options, targetOffset);
    slices.set(tensor.name, slice);
    lengths.set(placement.parameter, targetOffset + heldBytes);
  }
  const filled = new Map<string, number>();
  for (const slice of slices.values()) {
    if (slice !== null) {
      const before = filled.get(slice.parameter) ?? 0;
      filled.set(slice.parameter, before + slice.rows * slice.columnBytes);
    }
  }
  return {
    parameters: [...lengths].map(([name, byteLength]) => ({
      name,
      byteLength,
      padded: filled.get(name) !== byteLength,
    })),
    slices,
    tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
  };
}

function sliceOf(
  tensor: CheckpointTensor,
  placement: Placement,
  { rank, size }: { readonly rank: number; readonly size: number },
  targetOffset: number,
): { readonly slice: Slice; readonly heldBytes: number } {
  const rows = tensor.shape[0] ?? 1;
  const rowBytes = tensor.shape.slice(1).reduce((product, extent) => product * extent, tensor.itemSize);
  const base = { parameter: placement.parameter, targetOffset, rowBytes, replicated: false };
  const whole = { columnOffset: 0, columnBytes: rowBytes };
  switch (placement.split) {
    case 'none':
      return {
        slice: { ...base, ...whole, firstRow: 0, rows, replicated: true },
        heldBytes: rows * rowBytes,
      };
    case 'rows': {
      const share = even(tensor, rows, size);
      return {
        slice: { ...base, ...whole, firstRow: rank * share, rows: share },
        heldBytes: share * rowBytes,
      };
    }
    case 'columns': {
      const columnBytes = even(tensor, tensor.shape[1] ?? 1, size) * (rowBytes / (tensor.shape[1] ?? 1));
      const slice = { ...base, firstRow: 0, rows, columnOffset: rank * columnBytes, columnBytes };
      return { slice, heldBytes: rows * columnBytes };
    }
    case 'vocabulary': {
      const padded = Math.ceil(rows / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE;
      const share = even(tensor, padded, size);
      const firstRow = Math.min(rank * share, rows);
      const held = Math.min(share, rows - firstRow);
      return { slice: { ...base, ...whole, firstRow, rows: held }, heldBytes: share * rowBytes };
    }
  }
}

function even(tensor: CheckpointTensor, extent: number, size: number): number {
  if (extent % size !== 0) {
    throw new Error(`${tensor.name}: ${extent} is not divisible by ${size} workers`);
  }
  return extent / size;
}
