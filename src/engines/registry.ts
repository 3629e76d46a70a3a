/** The engines that weightcast speaks to, by the name a user gives before the URL. */
import { WeightcastError } from '../errors.js';
import type { EngineAdmin } from './admin.js';
import type { EngineTarget, ExchangeOptions, HttpClient } from './http.js';
import { connectVllm } from './vllm/connect.js';

/** Finds out what a server can do; nothing that it sends has effects. */
export type Connect = (
  http: HttpClient,
  target: EngineTarget,
  options?: ExchangeOptions,
) => Promise<EngineAdmin>;

const DIALECTS: Readonly<Record<string, Connect>> = { vllm: connectVllm };

const DEFAULT_DIALECT = 'vllm';

/** Names of the dialects, for help texts. */
export const dialectNames: readonly string[] = Object.keys(DIALECTS);

/**
 * Connects to an engine by its dialect.
 *
 * @throws WeightcastError WC_CONFIG_INVALID for an unknown dialect, and what the dialect throws.
 */
export async function connectEngine(
  http: HttpClient,
  target: EngineTarget,
  options: ExchangeOptions = {},
): Promise<EngineAdmin> {
  return dialect(target.dialect)(http, target, options);
}

function dialect(name: string): Connect {
  const connect = Object.hasOwn(DIALECTS, name) ? DIALECTS[name] : undefined;
  if (connect === undefined) {
    throw invalid(`engine: unknown dialect '${name}'; known: ${dialectNames.join(', ')}`);
  }
  return connect;
}

/** What a user may say of an engine beside its address. */
export interface EngineAccess {
  readonly dialect?: string | undefined;
  readonly apiKey?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/**
 * Reads 'vllm=http://host:8000' or a bare URL.
 *
 * @example parseEngine('vllm=http://10.0.0.7:8000', { apiKey: 'secret' })
 * @throws WeightcastError WC_CONFIG_INVALID
 */
export function parseEngine(text: string, access: EngineAccess = {}): EngineTarget {
  const named = /^([A-Za-z][A-Za-z0-9_-]*)=(.*)$/s.exec(text.trim());
  const name = named?.[1] ?? access.dialect ?? DEFAULT_DIALECT;
  dialect(name);
  const url = parseUrl(named?.[2] ?? text.trim());
  return { id: url, dialect: name, url, headers: access.headers ?? {}, apiKey: access.apiKey ?? null };
}

function parseUrl(text: string): string {
  // Credentials never reach a message, also when the rest is wrong.
  const shown = text.replace(/\/\/.*@/, '//…@').slice(0, 200);
  if (!/^https?:\/\//i.test(text)) {
    throw invalid(
      `engine: '${shown}' is not an http or https URL; write for example vllm=http://127.0.0.1:8000`,
    );
  }
  if (!URL.canParse(text)) throw invalid(`engine: '${shown}' is not a URL`);
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    throw invalid(`engine: leave the credentials out of '${shown}' and pass --api-key-env NAME`);
  }
  if (url.search !== '' || url.hash !== '') {
    throw invalid(`engine: '${shown}' has a query or a fragment; pass the server's address alone`);
  }
  if (url.port === '0') throw invalid(`engine: '${shown}' has port 0`);
  return url.href.replace(/\/+$/, '');
}

function invalid(message: string): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', message);
}
