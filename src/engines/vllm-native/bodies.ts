/** Bodies of the calls that make workers receive, by dialect. Fields that a version does not know make its workers fail. */
import { WeightcastError } from '../../errors.js';
import type { GroupSeat, Packing, WeightsUpdate } from '../admin.js';
import type { Dialect } from './dialects.js';

const UNIQUE_ID_BYTES = 128;

/** Both sides must cut chunks alike, so nothing is left to a default that a later version could change. */
function packingFields(packing: Packing | null): Record<string, unknown> {
  if (packing === null) return { packed: false };
  return {
    packed: true,
    packed_buffer_size_bytes: packing.bufferBytes,
    packed_num_buffers: packing.numBuffers,
  };
}

/** init_info; the address of the store or the id itself, never both (the server refuses that). */
export function initBody(
  dialect: Dialect,
  seat: Omit<GroupSeat, 'timeoutMs' | 'fleet'>,
): Record<string, unknown> {
  return {
    init_info: {
      ...rendezvousFields(dialect, seat),
      rank_offset: seat.rankOffset,
      world_size: seat.worldSize,
      ...(dialect.capabilities.packedIn === 'init' ? packingFields(seat.packing) : {}),
    },
  };
}

function rendezvousFields(
  dialect: Dialect,
  seat: Omit<GroupSeat, 'timeoutMs' | 'fleet'>,
): Record<string, unknown> {
  const { uniqueId } = seat;
  if (uniqueId === null) return { master_address: seat.masterAddress, master_port: seat.masterPort };
  if (dialect.capabilities.uniqueId !== 'inline' || uniqueId.byteLength !== UNIQUE_ID_BYTES) {
    throw new WeightcastError(
      'WC_NATIVE_ARGUMENT',
      `init: a unique id of ${uniqueId.byteLength} bytes for an engine that joins by ${dialect.capabilities.uniqueId}`,
    );
  }
  return { nccl_unique_id_b64: Buffer.from(uniqueId).toString('base64') };
}

/** The start body; `{}` is accepted by every version that has the route. */
export function startBody(dialect: Dialect): Record<string, unknown> {
  return dialect.checkpointFormatIn === 'start' ? { is_checkpoint_format: true } : {};
}

type Body = Record<string, unknown>;
type UpdateList = Pick<WeightsUpdate, 'tensors' | 'updates' | 'packing'>;

/** One body for all engines of a dialect: it is megabytes where there are many tensors. */
const updateBodies = new WeakMap<UpdateList, Map<string, Body>>();

/** update_info. The same object for the same update and form. */
export function updateBody(dialect: Dialect, update: UpdateList): Body {
  const form = `${dialect.capabilities.packedIn} ${dialect.checkpointFormatIn}`;
  const made = updateBodies.get(update) ?? new Map<string, Body>();
  updateBodies.set(update, made);
  const body = made.get(form) ?? makeUpdateBody(dialect, update);
  made.set(form, body);
  return body;
}

/** An empty list is refused here: 0.33 would expect the whole previous list. */
function makeUpdateBody(dialect: Dialect, update: UpdateList): Body {
  const { tensors, updates, packing } = update;
  if (tensors.length === 0) {
    throw new WeightcastError('WC_CONFIG_INVALID', 'an update needs at least one tensor', {
      remedy: 'Pass a checkpoint that has tensors.',
    });
  }
  const lists = {
    names: tensors.map((tensor) => tensor.name),
    dtype_names: tensors.map((tensor) => tensor.dtypeName),
    shapes: tensors.map((tensor) => tensor.shape),
  };
  // The sparse backend knows these four and nothing else (contracts/vllm.md 1.10).
  if (updates !== undefined) return { update_info: { ...lists, num_updates_list: updates } };
  return {
    update_info: {
      ...lists,
      ...(dialect.capabilities.packedIn === 'update' ? packingFields(packing) : {}),
      ...(dialect.checkpointFormatIn === 'update' ? { is_checkpoint_format: true } : {}),
    },
  };
}

/** The finish body; the version is a string, a number is refused. */
export function finishBody(dialect: Dialect, weightVersion: string | null): Record<string, unknown> {
  if (weightVersion === null || !dialect.capabilities.weightVersion) return {};
  return { weight_version: weightVersion };
}
