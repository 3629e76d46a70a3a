/**
 * Every option of a push, once: the keys of the configuration file, which are also the command line's flags with `_` for `-`.
 * Values of both go through this schema.
 */
import { z } from 'zod';
import { parseByteSize } from './bytes.js';
import { engine, engineKeys, engineUrl } from './engine.js';
import { envName, headerName, headerValue, text, whole } from './values.js';

const seconds = z
  .number()
  .positive('must be more than 0 seconds')
  .max(86_400, 'must be at most 86400 seconds');

const LARGEST_BUFFER = 2 ** 36;
const byteSize = z.unknown().transform((value, context): number => {
  const bytes = typeof value === 'string' ? parseByteSize(value) : value;
  if (typeof bytes === 'number' && Number.isInteger(bytes) && bytes >= 1 && bytes <= LARGEST_BUFFER) {
    return bytes;
  }
  context.addIssue('must be a size from 1 byte to 64 GiB, such as 268435456, "256MiB" or "1GiB"');
  return z.NEVER;
});

const timeouts = z.strictObject({
  ready: seconds.optional(),
  probe: seconds.optional(),
  pause: seconds.optional(),
  resume: seconds.optional(),
  rendezvous: seconds.optional(),
  update: seconds.optional(),
  checksum: seconds.optional(),
  score: seconds.optional(),
  discovery: seconds.optional(),
});

export const settingsSchema = z.strictObject({
  engine: z.array(engine).max(4096, 'at most 4096 engines').optional(),
  discover: z.array(text).max(64, 'at most 64 frontends').optional(),
  elastic: z.array(text).max(64, 'at most 64 names').optional(),
  router_url: engineUrl.optional(),
  backend: text.optional(),
  served_model: text.optional(),
  transport: z.enum(['nccl', 'filesystem']).optional(),
  fallback: z.enum(['filesystem', 'none']).optional(),
  recover: text.optional(),
  emulate: z.boolean().optional(),
  packed: z.boolean().optional(),
  packed_buffer_bytes: byteSize.optional(),
  master_address: text.optional(),
  master_port: whole(0, 65_535).optional(),
  device: whole(0, 1023).optional(),
  weight_version: text.max(256, 'is longer than 256 characters').optional(),
  delta: z.boolean().optional(),
  delta_from: text.optional(),
  delta_from_version: text.max(256, 'is longer than 256 characters').optional(),
  pause_mode: z.enum(['keep', 'wait', 'abort']).optional(),
  clear_cache: z.boolean().optional(),
  verify: z.enum(['auto', 'digest', 'fingerprint', 'none']).optional(),
  cuda_library: text.optional(),
  nccl_library: text.optional(),
  api_key_env: envName.optional(),
  headers: z.record(headerName, headerValue).optional(),
  headers_from_env: z.record(headerName, envName).optional(),
  timeouts: timeouts.optional(),
  state_dir: text.optional(),
  guardian: z.boolean().optional(),
  interval: seconds.optional(),
  sync_interval: seconds.optional(),
});

/** Validated options, of a file or of the command line, under the file's names; times in seconds. */
export type Settings = z.output<typeof settingsSchema>;

/** The keys that exist in the table at `path`, to suggest from. */
export function knownKeys(path: readonly PropertyKey[]): readonly string[] {
  if (path.length === 0) return Object.keys(settingsSchema.shape);
  if (path[0] === 'timeouts') return Object.keys(timeouts.shape);
  if (path[0] === 'engine' && path.length === 2) return engineKeys;
  return [];
}
