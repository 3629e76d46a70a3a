/** Exchanges that were recorded on the real Dynamo 1.6.1 (contracts/recorded/dynamo-1.6.1). */
import { readFileSync } from 'node:fs';
import type { Reply } from '../../../src/engines/admin.js';
import { parseBigJson, stringifyBigJson } from '../../../src/engines/big-json.js';

export interface Recorded {
  readonly method: string;
  readonly path: string;
  /** null: none was sent; {raw} is text that is no JSON. */
  readonly request: unknown;
  /** null when nobody answered. */
  readonly status: number | null;
  readonly contentType: string | null;
  readonly response: unknown;
  readonly note: string;
}

const FOLDER = new URL('../../vectors/dynamo/', import.meta.url);

export const vectorText = (name: string): string => readFileSync(new URL(name, FOLDER), 'utf8');

interface Entry {
  readonly method: string;
  readonly url: string;
  readonly request: unknown;
  readonly status: number | null;
  readonly content_type: string | null;
  readonly response: unknown;
  readonly note: string;
}

export function recordings(name: string): readonly Recorded[] {
  return (parseBigJson(vectorText(`${name}.json`)) as Entry[]).map((entry) => ({
    method: entry.method,
    path: new URL(entry.url).pathname,
    request: entry.request,
    status: entry.status,
    contentType: entry.content_type,
    response: entry.response,
    note: entry.note,
  }));
}

const WORKER = [
  'basic',
  'engine',
  'pause_modes',
  'lora',
  'sleep',
  'gloo_broadcast',
  'fleet',
  'hotswap_stop',
] as const;

/** Everything that was asked of a worker or of the frontend before it. */
export const ALL: readonly Recorded[] = [
  ...WORKER,
  'nvext_tiny',
  'stub_on_real_runtime',
  'file',
  'stop',
].flatMap(recordings);

/** As the HTTP client gives it. */
export function replyOf({ status, contentType, response }: Recorded): Reply {
  if (status === null) throw new Error('nobody answered');
  const text = typeof response === 'string' ? response : stringifyBigJson(response);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status, contentType, text, json };
}

/** The one with this note (and path); the first where there are several. */
export function noted(
  note: string,
  { from = ALL, path }: { from?: readonly Recorded[]; path?: string } = {},
): Recorded {
  const found = from.find((each) => each.note === note && (path === undefined || each.path === path));
  if (found === undefined) throw new Error(`nothing was recorded as '${note}'`);
  return found;
}
