/** What a frontend's RL listener answers, as one list of workers in an order of their own. */
import type { Reply } from '../../engines/admin.js';
import { parseBigJson, stringifyBigJson } from '../../engines/big-json.js';
import { isRecord } from '../../engines/is-record.js';
import { WeightcastError } from '../../errors.js';
import {
  byIdentity,
  type DynamoWorker,
  type Expectations,
  readWorker,
  type UnusableWorker,
} from './worker.js';

export interface DynamoSnapshot {
  readonly namespace: string | null;
  readonly workers: readonly DynamoWorker[];
  readonly unusable: readonly UnusableWorker[];
}

const MAX_WORKERS = 4096;
const MAX_CHARS = 8 << 20;

/**
 * Reads a 200.
 *
 * @throws WeightcastError WC_ENGINE_PROTOCOL for another protocol version, a worker that can't be read, and one that is listed twice
 */
export function readSnapshot(reply: Pick<Reply, 'text'>, listener: string, expected: Expectations) {
  const refuse = (why: string): never => {
    throw new WeightcastError('WC_ENGINE_PROTOCOL', `${listener}: ${why}`, {
      engine: listener,
      phase: 'discovery',
      details: { lasting: true },
    });
  };
  const body = parsed(reply.text) ?? refuse('the answer is no JSON');
  if (!isRecord(body) || !Array.isArray(body.workers)) return refuse('the answer has no list of workers');
  // Early builds have none (contracts/dynamo.md §2.1).
  const version = body.protocol_version ?? 1;
  if (version !== 1)
    return refuse(`protocol_version ${stringifyBigJson(version).slice(0, 40)}, and this version knows 1`);
  if (body.workers.length > MAX_WORKERS) return refuse(`more than ${MAX_WORKERS} workers`);

  const workers: DynamoWorker[] = [];
  const unusable: UnusableWorker[] = [];
  for (const value of body.workers as unknown[]) {
    const judged = readWorker(value, expected);
    if (judged.kind === 'invalid') return refuse(judged.why);
    if (judged.kind === 'usable') workers.push(judged.worker);
    else unusable.push(judged.worker);
  }
  const twice =
    duplicate([...workers, ...unusable].map(({ identity }) => identity)) ??
    duplicate(workers.map(({ systemUrl }) => systemUrl));
  if (twice !== null) return refuse(`${twice} is listed twice`);
  const namespace = typeof body.namespace === 'string' ? body.namespace.slice(0, 200) : null;
  return { namespace, workers: workers.sort(byIdentity), unusable: unusable.sort(byIdentity) };
}

function parsed(text: string): unknown {
  if (text.length > MAX_CHARS) return undefined;
  try {
    return parseBigJson(text);
  } catch {
    return undefined;
  }
}

function duplicate(values: readonly string[]): string | null {
  const seen = new Set<string>();
  for (const value of values) {
    if (seen.has(value)) return value;
    seen.add(value);
  }
  return null;
}

/** The workers that one lists and the other does not, or lists otherwise; null when both say the same. */
export function difference(a: DynamoSnapshot, b: DynamoSnapshot): string | null {
  const [left, right] = [a, b].map(
    ({ workers }) => new Map(workers.map((w) => [w.identity, JSON.stringify(w)])),
  );
  const differing = [...new Set([...(left?.keys() ?? []), ...(right?.keys() ?? [])])].filter(
    (identity) => left?.get(identity) !== right?.get(identity),
  );
  const [first] = differing;
  if (first === undefined) return null;
  return differing.length === 1 ? first : `${first} and ${differing.length - 1} more`;
}
