/** The recorded exchanges of real servers, as data. Origin: test/vectors/vllm/README.md. */
import { readFileSync } from 'node:fs';
import type { Reply } from '../../../src/engines/admin.js';

const FOLDER = new URL('../../vectors/vllm/', import.meta.url);

export const VERSIONS = [
  '0.16.0',
  '0.18.1',
  '0.20.2',
  '0.22.1',
  '0.24.0',
  '0.27.1',
  '0.28.0',
  '0.30.0',
  '0.32.0',
  '0.33.0',
] as const;

export type Version = (typeof VERSIONS)[number];

export interface Recorded {
  readonly phase: string;
  readonly section: string;
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
  readonly note?: string;
  readonly status: number;
  readonly content_type: string | null;
  readonly response: unknown;
}

const load = (name: string): unknown => JSON.parse(readFileSync(new URL(name, FOLDER), 'utf8'));

/** Every request that got an answer; streams and store traces are left out. */
export function recorded(version: Version): readonly Recorded[] {
  return (load(`${version}.json`) as Recorded[]).filter(
    (entry) => entry.path !== undefined && typeof entry.status === 'number' && 'response' in entry,
  );
}

/** The paths of the server's /openapi.json. */
export function routes(version: Version): Readonly<Record<string, unknown>> {
  return load(`routes-${version}.json`) as Record<string, unknown>;
}

/** The recorder cut this answer. */
export function isCut(entry: Recorded): boolean {
  return typeof entry.response === 'string' && /…\[\d+ chars\]$/.test(entry.response);
}

/** The answer as a client reads it. */
export function replyOf(entry: Recorded): Reply {
  const { response } = entry;
  const text = typeof response === 'string' ? response : JSON.stringify(response);
  return {
    status: entry.status,
    contentType: entry.content_type,
    text,
    json: typeof response === 'string' ? undefined : response,
  };
}

/**
 * True when the server took the request as it was: it answered 200, or understood it and then failed in a worker for want of a GPU, of
 * a communicator or of an open session. (The recordings were made without a GPU.)
 */
export function wasAccepted(entry: Recorded): boolean {
  if (entry.status === 200) return true;
  return (
    entry.status === 500 &&
    /Found no NVIDIA driver|weight transfer not initialized|device\(\) received an invalid|without a matching start/.test(
      JSON.stringify(entry.response),
    )
  );
}
