/** Where a prime-rl file has its tables: it moved them, and an orchestrator's own file has them at the top. */
import type { z } from 'zod';
import { isRecord } from '../../engines/is-record.js';
import { WeightcastError } from '../../errors.js';
import { nearestKey } from '../nearest.js';
import { type BroadcastTable, broadcastSchema, type ClientTable, clientSchema } from './schema.js';

/** Since 0.7, of 0.6, up to 0.6; then the same in a file of the orchestrator alone. */
const CLIENTS = [
  'orchestrator.model.client',
  'orchestrator.student.client',
  'orchestrator.client',
  'model.client',
  'student.client',
  'client',
];

const BROADCASTS = ['weight_broadcast', 'orchestrator.weight_broadcast', 'trainer.weight_broadcast'];

/** @throws WeightcastError WC_CONFIG_INVALID when there is none, or two, or a key that prime-rl does not know */
export function clientTable(file: unknown): ClientTable {
  const found = CLIENTS.filter((path) => tableAt(file, path) !== undefined);
  const [path, second] = found;
  if (path === undefined) {
    throw invalid(`no client table: none of ${CLIENTS.slice(0, 3).join(', ')} is there`, {
      remedy:
        "prime-rl's launcher fills it in: point at the configs/orchestrator.json that it writes into the run's folder, or add [orchestrator.model.client] with admin_base_url.",
    });
  }
  if (second !== undefined) throw invalid(`the client is given twice, in ${path} and in ${second}`);
  return validated(clientSchema, tableAt(file, path), path);
}

/** What the components say, together; null when none says anything. @throws WeightcastError WC_CONFIG_INVALID also where they disagree */
export function broadcastTable(file: unknown): BroadcastTable | null {
  const merged: Record<string, unknown> = {};
  const saidBy = new Map<string, string>();
  for (const path of BROADCASTS) {
    const table = tableAt(file, path);
    if (table === undefined) continue;
    for (const [key, value] of Object.entries(validated(broadcastSchema, table, path))) {
      const other = saidBy.get(key);
      // The trainer listens on 0.0.0.0 where the orchestrator is told its name.
      if (key === 'host' && other !== undefined) continue;
      if (other !== undefined && merged[key] !== value) {
        throw invalid(`${path}.${key} is ${String(value)}, and ${other}.${key} is ${String(merged[key])}`);
      }
      saidBy.set(key, path);
      merged[key] = value;
    }
  }
  return saidBy.size === 0 ? null : (merged as BroadcastTable);
}

/** The model that the orchestrator asks its engines for; null where the file does not say. */
export function modelName(file: unknown): string | null {
  const said = ['orchestrator.model.name', 'model.name'].map((path) => tableAt(file, path));
  const name = said.find((value) => value !== undefined);
  return typeof name === 'string' && name !== '' && name.length <= 4096 ? name : null;
}

/** GPU workers as prime-rl's launcher counts them on one node: data-parallel times tensor-parallel; null where the file does not say. */
export function launchedWorkers(file: unknown): number | null {
  const inference = tableAt(file, 'inference');
  if (inference === undefined || tableAt(file, 'deployment.type') === 'multi_node') return null;
  const sizes = [
    ['inference.vllm.data_parallel_size', 'inference.vllm.tensor_parallel_size'],
    ['inference.parallel.dp', 'inference.parallel.tp'],
  ].map((paths) => paths.map((path) => tableAt(file, path)));
  const said = sizes.find(([dp, tp]) => dp !== undefined || tp !== undefined) ?? [];
  const product = said.reduce<number>((all, size) => all * (typeof size === 'number' ? size : 1), 1);
  return Number.isSafeInteger(product) && product >= 1 ? product : null;
}

function tableAt(file: unknown, path: string): unknown {
  let value = file;
  for (const key of path.split('.')) {
    if (!isRecord(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value ?? undefined;
}

/** The resolved files have null where nothing was said. */
function withoutNulls(value: unknown): unknown {
  if (!isRecord(value)) return value;
  const said = Object.entries(value).filter(([, member]) => member !== null);
  return Object.fromEntries(said.map(([key, member]) => [key, withoutNulls(member)]));
}

function validated<S extends z.ZodObject>(schema: S, table: unknown, path: string): z.output<S> {
  const result = schema.safeParse(withoutNulls(table));
  if (result.success) return result.data;
  throw invalid(result.error.issues.map((issue) => described(issue, path, schema)).join('; '));
}

/** Values are not shown: headers may hold secrets. */
function described(issue: z.core.$ZodIssue, path: string, schema: z.ZodObject): string {
  const at = [path, ...issue.path.map(String)].join('.');
  if (issue.code !== 'unrecognized_keys') return `${at}: ${issue.message}`;
  const known = issue.path.length === 0 ? Object.keys(schema.shape) : [];
  return issue.keys
    .slice(0, 8)
    .map((key) => {
      const near = nearestKey(key, known);
      return `${at}.${key.slice(0, 80)}: unknown key${near === null ? '' : `; did you mean ${near}?`}`;
    })
    .join('; ');
}

export function invalid(message: string, more: { readonly remedy?: string } = {}): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', message, {
    remedy: more.remedy ?? 'Correct the prime-rl file, or name the engines with --engine.',
  });
}
