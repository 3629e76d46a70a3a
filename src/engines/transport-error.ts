/** What the socket, the resolver, TLS and the HTTP parser say, in our codes. */
import { errors } from 'undici';
import { WeightcastError } from '../errors.js';

/** Failures after which the engine certainly never saw the request: a receive cannot have begun. */
const NEVER_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

const CLOSED = new Set(['UND_ERR_DESTROYED', 'UND_ERR_CLOSED']);

export interface CallSite {
  readonly engine: string;
  readonly url: string;
  readonly operation: string;
}

/** Translates an error that undici threw. */
export function transportError(cause: unknown, site: CallSite): WeightcastError {
  if (cause instanceof WeightcastError) return cause;
  const { code, text } = describe(cause);
  const details = { operation: site.operation, url: site.url, cause: code, sent: !NEVER_SENT.has(code) };
  const fields = { engine: site.engine, cause, details };
  if (CLOSED.has(code)) {
    return new WeightcastError('WC_NATIVE_CLOSED', `${site.operation}: the HTTP client is closed`, fields);
  }
  if (code === 'UND_ERR_INVALID_ARG') {
    return new WeightcastError('WC_CONFIG_INVALID', `${site.operation}: ${site.url}: ${text}`, {
      ...fields,
      details: { ...details, sent: false },
      remedy: 'Correct the API key or the headers of this engine.',
    });
  }
  if (cause instanceof errors.HTTPParserError || code === 'UND_ERR_HEADERS_OVERFLOW') {
    return new WeightcastError(
      'WC_ENGINE_PROTOCOL',
      `${site.operation}: ${site.url} does not answer in HTTP: ${text}`,
      fields,
    );
  }
  return new WeightcastError(
    'WC_ENGINE_UNREACHABLE',
    `${site.operation}: ${site.url} is unreachable: ${text}`,
    fields,
  );
}

function describe(cause: unknown): { readonly code: string; readonly text: string } {
  // Happy eyeballs reports one error an address.
  const first = cause instanceof AggregateError && cause.errors.length > 0 ? cause.errors[0] : cause;
  const code = (first as { code?: unknown } | null)?.code;
  const text = first instanceof Error && first.message !== '' ? first.message : String(code ?? first);
  return { code: typeof code === 'string' ? code : 'unknown', text: withoutOpenssl(text) };
}

/** '801C88…:error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/…c:350:\n' in a few words. */
function withoutOpenssl(text: string): string {
  const reason = /:error:[0-9A-F]+:[^:]*:[^:]*:([^:]+):/.exec(text)?.[1];
  if (reason === undefined) return text;
  return reason === 'wrong version number'
    ? 'TLS failed: it answers in http, not https'
    : `TLS failed: ${reason}`;
}
