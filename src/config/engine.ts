/** One engine of the configuration: a table, or the text that the command line takes. */
import { z } from 'zod';
import { backendParameters } from '../engines/registry.js';
import { envName, headerName, headerValue, text, whole } from './values.js';

export const engineUrl = text.superRefine((value, context) => {
  const parsed = URL.canParse(value) ? new URL(value) : null;
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) {
    context.addIssue('must be an http:// or https:// address, such as http://10.0.0.5:8000');
  } else if (parsed.username !== '' || parsed.password !== '') {
    context.addIssue('must not contain a user or password: pass the key by api_key_env');
  } else if (parsed.search !== '' || parsed.hash !== '') {
    context.addIssue('must not contain a query or a fragment');
  }
});

const engineTable = z.strictObject({
  url: engineUrl,
  backend: text.optional(),
  workers: whole(1, 65_536).optional(),
  inference: engineUrl.optional(),
  api_key_env: envName.optional(),
  headers: z.record(headerName, headerValue).optional(),
  headers_from_env: z.record(headerName, envName).optional(),
  /** Also filled in below: in a file they may be keys of the engine's table. */
  parameters: z.record(z.string().regex(/^[a-z][a-z0-9_]*$/, 'is not a name'), text).optional(),
});

/** What an engine's table may have. */
export const engineKeys: readonly string[] = [
  ...Object.keys(engineTable.shape).filter((key) => key !== 'parameters'),
  ...backendParameters(),
];

/** 'prime-rl=http://host:8000,workers=2' is short for { backend = "prime-rl", url = "http://host:8000", workers = 2 }. */
export const engine = z.preprocess((value, context) => {
  if (typeof value !== 'string') return isTable(value) ? gathered(value) : value;
  const match = /^([a-z][a-z0-9_-]*)=(.*)$/s.exec(value);
  const [url, ...words] = (match?.[2] ?? value).split(',');
  const table: Record<string, unknown> = match === null ? { url } : { backend: match[1], url };
  for (const word of words) {
    const [, key, said] = /^([a-z][a-z0-9_]*)=(.+)$/s.exec(word.trim()) ?? [];
    if (key === undefined || said === undefined || key in table) {
      context.addIssue('has something after the address that is not NAME=VALUE once, such as workers=2');
      return z.NEVER;
    }
    if (key === 'workers') table.workers = /^\d{1,6}$/.test(said) ? Number(said) : said;
    else table[key] = said;
  }
  return gathered(table);
}, engineTable);

/** Puts what only a backend understands into one place; a key that no backend has stays where it is, and is refused there. */
function gathered(table: Record<string, unknown>): Record<string, unknown> {
  const { backend } = table;
  const known = new Set(backendParameters(typeof backend === 'string' ? backend : undefined));
  const entries = Object.entries(table);
  const parameters = entries.filter(([key]) => known.has(key));
  const others = Object.fromEntries(entries.filter(([key]) => !known.has(key)));
  if (parameters.length === 0) return others;
  const given = isTable(others.parameters) ? others.parameters : {};
  return { ...others, parameters: { ...given, ...Object.fromEntries(parameters) } };
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
