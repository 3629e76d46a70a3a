/**
 * The tables of a prime-rl file that say how engines are reached, by prime-rl's own names, of every release from 0.2 on (contracts/prime-rl.md 8, dynamo.md 2.2).
 */
import { z } from 'zod';

const text = z.string().min(1).max(4096);
const urls = z.union([text, z.array(text).min(1).max(4096)]);
const texts = z.record(z.string().max(128), z.string().max(8192));
const seconds = z.number().positive().max(86_400);
const port = z.int().min(1).max(65_535);

export const clientSchema = z.strictObject({
  backend: z.enum(['vllm', 'dynamo']).optional(),
  base_url: urls.optional(),
  admin_base_url: urls.optional(),
  rl_base_url: urls.optional(),
  router_url: text.optional(),
  api_key_var: text.optional(),
  headers: texts.optional(),
  headers_from_env: texts.optional(),
  extra_headers_from_state: texts.optional(),
  skip_model_check: z.boolean().optional(),
  wait_for_ready_timeout: seconds.optional(),
  elastic: z
    .strictObject({ hostname: text, port: port.optional(), sync_interval: seconds.optional() })
    .optional(),
  dynamo: z.strictObject({ enabled: z.boolean().optional(), discovery_url: text.optional() }).optional(),
  // Of inference requests alone, and gone in later releases.
  timeout: seconds.optional(),
  connect_timeout: seconds.optional(),
  dp_rank_count: z.int().min(1).optional(),
});

export type ClientTable = z.output<typeof clientSchema>;

export const broadcastSchema = z.strictObject({
  type: z.enum(['nccl', 'filesystem', 'nixl']),
  host: text.optional(),
  port: port.optional(),
  timeout: seconds.optional(),
  inference_world_size: z.int().min(1).max(65_536).optional(),
  quantize_in_weight_transfer: z.boolean().optional(),
  session_id: text.optional(),
  // How prime-rl's trainer writes files (up to 0.8.0); whoever reads them finds out.
  save_sharded: z.boolean().optional(),
  save_format: z.enum(['safetensors', 'torch']).optional(),
});

export type BroadcastTable = z.output<typeof broadcastSchema>;
