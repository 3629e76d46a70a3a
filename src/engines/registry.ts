/** The engines that weightcast speaks to, by the name a user gives before the URL. */
import { WeightcastError } from '../errors.js';
import type { EngineAdmin } from './admin.js';
import { detectBackend } from './auto.js';
import type { Connect, ConnectOptions } from './connect.js';
import { connectDynamo } from './dynamo/connect.js';
import { DYNAMO_PARAMETERS } from './dynamo/parameters.js';
import type { EngineTarget, HttpClient } from './http.js';
import { connectPrimeRl } from './prime-rl/connect.js';
import { connectVllm } from './vllm/connect.js';

interface Backend {
  readonly connect: Connect;
  /** What may follow the address beside `workers` and `inference`. */
  readonly parameters: readonly string[];
}

const BACKENDS: Readonly<Record<string, Backend>> = {
  vllm: { connect: connectVllm, parameters: ['transfer'] },
  dynamo: { connect: connectDynamo, parameters: DYNAMO_PARAMETERS },
  'prime-rl': { connect: connectPrimeRl, parameters: ['broadcast', 'pause'] },
};

const DEFAULT_BACKEND = 'vllm';

/** Finds out which of them a server is. */
const AUTO = 'auto';

/** Names of the backends, for help texts. */
export const backendNames: readonly string[] = [...Object.keys(BACKENDS), AUTO];

/** What may follow the address of an engine beside `workers` and `inference`. @param name of a backend; default: all of them */
export function backendParameters(name = AUTO): readonly string[] {
  if (name !== AUTO) return Object.hasOwn(BACKENDS, name) ? (BACKENDS[name]?.parameters ?? []) : [];
  return [...new Set(Object.values(BACKENDS).flatMap(({ parameters }) => parameters))];
}

/**
 * Connects to an engine by its backend.
 *
 * @throws WeightcastError WC_CONFIG_INVALID for an unknown backend, and what the backend throws.
 */
export async function connectEngine(
  http: HttpClient,
  target: EngineTarget,
  options: ConnectOptions = {},
): Promise<EngineAdmin> {
  const name = target.backend === AUTO ? await detectBackend(http, target, options) : target.backend;
  return backend(name).connect(http, target, options);
}

function backend(name: string): Backend {
  const found = Object.hasOwn(BACKENDS, name) ? BACKENDS[name] : undefined;
  if (found === undefined) {
    throw invalid(`engine: unknown backend '${name}'; known: ${backendNames.join(', ')}`);
  }
  return found;
}

/** What a user may say of an engine beside its address. */
export interface EngineAccess {
  readonly backend?: string | undefined;
  readonly apiKey?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly workers?: number | undefined;
  readonly inferenceUrl?: string | undefined;
  readonly parameters?: Readonly<Record<string, string>> | undefined;
  readonly routes?: readonly string[] | undefined;
}

/**
 * Reads 'vllm=http://host:8000' or a bare URL, and what follows it: 'prime-rl=http://host:8000,workers=2'.
 *
 * @example parseEngine('vllm=http://10.0.0.7:8000', { apiKey: 'secret' })
 * @throws WeightcastError WC_CONFIG_INVALID
 */
export function parseEngine(text: string, access: EngineAccess = {}): EngineTarget {
  const named = /^([A-Za-z][A-Za-z0-9_-]*)=(.*)$/s.exec(text.trim());
  const name = named?.[1] ?? access.backend ?? DEFAULT_BACKEND;
  if (name !== AUTO) backend(name);
  const known = ['workers', 'inference', ...backendParameters(name)];
  const stranger = Object.keys(access.parameters ?? {}).find((key) => !known.includes(key));
  if (stranger !== undefined) throw unknownWord(stranger, known);
  const [address = '', ...words] = (named?.[2] ?? text.trim()).split(',');
  const url = parseUrl(address);
  const { workers, inference, ...parameters } = parseWords(words, known);
  return {
    id: url,
    backend: name,
    url,
    headers: access.headers ?? {},
    apiKey: access.apiKey ?? null,
    workers: access.workers ?? (workers === undefined ? null : parseWorkers(workers)),
    inferenceUrl: parsed(access.inferenceUrl ?? inference),
    parameters: { ...access.parameters, ...parameters },
    ...(access.routes === undefined ? {} : { routes: access.routes }),
  };
}

function parsed(url: string | undefined): string | null {
  return url === undefined ? null : parseUrl(url);
}

/** What follows the address: 'workers=2', 'inference=http://…', and what only the backend understands. @throws WeightcastError WC_CONFIG_INVALID */
export function parseWords(
  words: readonly string[],
  known: readonly string[],
  what = 'engine',
): Record<string, string> {
  const parsed = new Map<string, string>();
  for (const word of words) {
    const [, key, value] = /^([a-z][a-z0-9_]*)=(.+)$/s.exec(word.trim()) ?? [];
    if (key === undefined || value === undefined) {
      throw invalid(`${what}: '${word.slice(0, 80)}' after the address is not NAME=VALUE, such as workers=2`);
    }
    if (!known.includes(key)) throw unknownWord(key, known, what);
    if (parsed.has(key)) throw invalid(`${what}: ${key} is given twice`);
    parsed.set(key, value);
  }
  return Object.fromEntries(parsed);
}

function unknownWord(key: string, known: readonly string[], what = 'engine'): WeightcastError {
  return invalid(`${what}: unknown '${key.slice(0, 80)}'; known: ${known.join(', ')}`);
}

/** @throws WeightcastError WC_CONFIG_INVALID */
export function parseWorkers(text: string, what = 'engine', key = 'workers'): number {
  const workers = Number(text);
  if (!/^\d+$/.test(text) || workers < 1 || workers > 65_536) {
    throw invalid(`${what}: ${key}=${text.slice(0, 20)} is not a number of GPU workers`);
  }
  return workers;
}

/** An address without its trailing slash. @throws WeightcastError WC_CONFIG_INVALID */
export function parseUrl(text: string, what = 'engine'): string {
  // Credentials never reach a message, also when the rest is wrong.
  const shown = text.replace(/\/\/.*@/, '//…@').slice(0, 200);
  if (!/^https?:\/\//i.test(text)) {
    const example = `${what === 'engine' ? 'vllm=' : ''}http://127.0.0.1:8000`;
    throw invalid(`${what}: '${shown}' is not an http or https URL; write for example ${example}`);
  }
  if (!URL.canParse(text)) throw invalid(`${what}: '${shown}' is not a URL`);
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    throw invalid(`${what}: leave the credentials out of '${shown}' and pass --api-key-env NAME`);
  }
  if (url.search !== '' || url.hash !== '') {
    throw invalid(`${what}: '${shown}' has a query or a fragment; pass the server's address alone`);
  }
  if (url.port === '0') throw invalid(`${what}: '${shown}' has port 0`);
  return url.href.replace(/\/+$/, '');
}

function invalid(message: string): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', message);
}
