/**
 * init_info and update_info as vLLM's dataclasses take them: unknown and missing fields are refused with Python's words.
 * Written from contracts/vllm.md 1.2, 1.5, 3.6 and the recorded 500s.
 */
import type { Profile } from './profile.js';
import { isObject, type JsonObject } from './validation.js';

/** An exception in a worker; becomes the 500 of collective_rpc. */
export class WorkerError extends Error {}

/** How a group is joined. */
export interface JoinOrder {
  readonly masterAddress: string | null;
  readonly masterPort: number | null;
  /** Base64 of 128 bytes. */
  readonly uniqueId: string | null;
  readonly rankOffset: number;
  readonly worldSize: number;
}

export interface Packed {
  readonly packed: boolean;
  readonly bufferBytes: number;
}

/** What will be broadcast. */
export interface ReceiveOrder extends Packed {
  readonly names: readonly string[];
  readonly dtypeNames: readonly string[];
  readonly shapes: readonly (readonly number[])[];
  /** Of the sparse backend: elements of each tensor that are patched. */
  readonly updates?: readonly number[];
}

/** The backend of `--weight-transfer-config`. */
export type TransferBackend = 'nccl' | 'sparse_nccl';

const ENGINE_CLASSES: Readonly<Record<TransferBackend, string>> = {
  nccl: 'NCCLWeightTransferEngine',
  sparse_nccl: 'SparseNCCLWeightTransferEngine',
};

const PACKED_FIELDS = ['packed', 'packed_buffer_size_bytes', 'packed_num_buffers'];
const DEFAULT_BUFFER_BYTES = 1 << 30;

const quoted = (names: readonly string[]): string => {
  const items = names.map((name) => `'${name}'`);
  return items.length < 3 ? items.join(' and ') : `${items.slice(0, -1).join(', ')}, and ${items.at(-1)}`;
};

/** Python's dataclass constructor: unexpected names are told before missing ones. */
function construct(
  label: 'init_info' | 'update_info',
  value: unknown,
  options: {
    readonly backend: TransferBackend;
    readonly type: string;
    readonly module: string;
    readonly fields: readonly string[];
    readonly required: readonly string[];
    readonly kind: 'positional' | 'keyword-only';
  },
): JsonObject {
  const prefix = `Invalid ${label} for ${ENGINE_CLASSES[options.backend]}: `;
  if (!isObject(value)) {
    const type = Array.isArray(value) ? 'list' : typeof value === 'string' ? 'str' : 'NoneType';
    throw new WorkerError(
      `${prefix}vllm.distributed.weight_transfer.${options.module}.${options.type}() argument after ** must be a mapping, not ${type}`,
    );
  }
  const unexpected = Object.keys(value).find((key) => !options.fields.includes(key));
  if (unexpected !== undefined) {
    throw new WorkerError(
      `${prefix}${options.type}.__init__() got an unexpected keyword argument '${unexpected}'`,
    );
  }
  const absent = options.required.filter((name) => !(name in value));
  if (absent.length > 0) {
    throw new WorkerError(
      `${prefix}${options.type}.__init__() missing ${absent.length} required ${options.kind} argument${absent.length > 1 ? 's' : ''}: ${quoted(absent)}`,
    );
  }
  return value;
}

const integer = (value: unknown, name: string): number => {
  if (typeof value !== 'number' || !Number.isInteger(value)) {
    throw new WorkerError(`${name} is not an integer`);
  }
  return value;
};

function packedOf(value: JsonObject): Packed {
  const bytes = value.packed_buffer_size_bytes;
  return {
    packed: value.packed === true,
    bufferBytes: bytes === undefined ? DEFAULT_BUFFER_BYTES : integer(bytes, 'packed_buffer_size_bytes'),
  };
}

export function parseInitInfo(
  profile: Profile,
  value: unknown,
  backend: TransferBackend = 'nccl',
): { readonly order: JoinOrder; readonly packed: Packed } {
  const seat = ['master_address', 'master_port', 'rank_offset', 'world_size'];
  const info = construct('init_info', value, {
    backend,
    type: 'NCCLWeightTransferInitInfo',
    // The class moved with the refactor of 0.25.
    module: profile.weightVersion ? 'nccl_common' : 'nccl_engine',
    fields: [
      ...seat,
      ...(profile.packedIn === 'init' ? PACKED_FIELDS : []),
      ...(profile.inlineUniqueId ? ['nccl_unique_id_b64'] : []),
    ],
    required: profile.inlineUniqueId ? ['rank_offset', 'world_size'] : seat,
    kind: profile.inlineUniqueId ? 'keyword-only' : 'positional',
  });
  const address = info.master_address ?? null;
  const port = info.master_port ?? null;
  const id = info.nccl_unique_id_b64 ?? null;
  if (profile.inlineUniqueId) {
    checkUniqueId(id, address, port);
  }
  return {
    order: {
      masterAddress: address === null ? null : String(address),
      masterPort: port === null ? null : integer(port, 'master_port'),
      uniqueId: id === null ? null : String(id),
      rankOffset: integer(info.rank_offset, 'rank_offset'),
      worldSize: integer(info.world_size, 'world_size'),
    },
    packed: packedOf(info),
  };
}

function checkUniqueId(id: unknown, address: unknown, port: unknown): void {
  const prefix = 'NCCLWeightTransferInitInfo: ';
  if (id === null) {
    if (address === null || port === null) {
      const shown = [address, port].map((item) => (item === null ? 'None' : String(item)));
      throw new WorkerError(
        `${prefix}need nccl_unique_id_b64, or both master_address and master_port (got master_address=${shown[0]}, master_port=${shown[1]})`,
      );
    }
    return;
  }
  if (address !== null || port !== null) {
    throw new WorkerError(`${prefix}pass nccl_unique_id_b64 OR master_address/master_port, not both`);
  }
  if (
    typeof id !== 'string' ||
    !/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(id)
  ) {
    throw new WorkerError(
      `${prefix}nccl_unique_id_b64 is not valid standard base64 (URL-safe base64 is not accepted)`,
    );
  }
  const length = Buffer.from(id, 'base64').length;
  if (length !== 128) {
    throw new WorkerError(`${prefix}nccl_unique_id_b64 must decode to 128 bytes, got ${length}`);
  }
}

const LISTS = ['names', 'dtype_names', 'shapes'] as const;

/** Reads one update_info; `packedAtInit` rules where the version has it there. */
export function parseUpdateInfo(profile: Profile, value: unknown, packedAtInit: Packed | null): ReceiveOrder {
  const info = construct('update_info', value, {
    backend: 'nccl',
    type: 'NCCLWeightTransferUpdateInfo',
    module: 'nccl_engine',
    fields: [...LISTS, ...profile.updateFields],
    required: profile.reusesMetadata ? [] : LISTS,
    kind: 'positional',
  });
  if (info.is_checkpoint_format === false || (info.update_kind ?? 'dense') !== 'dense') {
    throw new WorkerError('a reference engine receives whole tensors in checkpoint format only');
  }
  return {
    ...listsOf(info),
    ...(profile.packedIn === 'init'
      ? (packedAtInit ?? { packed: false, bufferBytes: DEFAULT_BUFFER_BYTES })
      : packedOf(info)),
  };
}

/** Reads one update_info of the sparse backend (`SparseNCCLWeightTransferUpdateInfo`, vLLM 0.32.0). */
export function parseSparseInfo(value: unknown): ReceiveOrder {
  const fields = [...LISTS, 'num_updates_list'];
  const info = construct('update_info', value, {
    backend: 'sparse_nccl',
    type: 'SparseNCCLWeightTransferUpdateInfo',
    module: 'sparse_nccl_engine',
    fields,
    required: fields,
    kind: 'positional',
  });
  const lists = listsOf(info);
  const updates = listOf(info, 'num_updates_list').map((count) => integer(count, 'a number of updates'));
  if (updates.length === 0) {
    throw new WorkerError('`num_updates_list` cannot be empty for sparse updates');
  }
  requireEqualLength('num_updates_list', updates, lists.names);
  if (updates.some((count) => count < 0)) {
    throw new WorkerError('Sparse `num_updates_list` entries must be non-negative');
  }
  return { ...lists, updates, packed: false, bufferBytes: DEFAULT_BUFFER_BYTES };
}

function listOf(info: JsonObject, field: string): unknown[] {
  const list = info[field] ?? [];
  if (!Array.isArray(list)) {
    throw new WorkerError(`${field} is not a list`);
  }
  return list as unknown[];
}

function requireEqualLength(field: string, list: readonly unknown[], names: readonly unknown[]): void {
  if (list.length !== names.length) {
    throw new WorkerError(
      `\`${field}\` should be of the same size as \`names\`: got ${list.length} and ${names.length}`,
    );
  }
}

function listsOf(info: JsonObject): Pick<ReceiveOrder, 'names' | 'dtypeNames' | 'shapes'> {
  const [names, dtypeNames, shapes] = LISTS.map((field) => listOf(info, field)) as [
    unknown[],
    unknown[],
    unknown[],
  ];
  requireEqualLength('dtype_names', dtypeNames, names);
  requireEqualLength('shapes', shapes, names);
  return {
    names: names.map(String),
    dtypeNames: dtypeNames.map(String),
    shapes: shapes.map((shape) => {
      if (!Array.isArray(shape)) {
        throw new WorkerError('a shape is not a list');
      }
      return shape.map((size) => {
        const value = integer(size, 'a size');
        if (value < 0) {
          throw new WorkerError('Trying to create tensor with negative dimension');
        }
        return value;
      });
    }),
  };
}
