/** Turns what zod found into sentences that name the key and what it may be. */
import type { z } from 'zod';
import { nearestKey } from './nearest.js';
import { knownKeys } from './schema.js';

export type Origin = { readonly kind: 'file'; readonly path: string } | { readonly kind: 'flags' };

type Issue = z.core.$ZodIssue;

/** One sentence for each problem, such as 'transport: must be one of "nccl", "filesystem", not "ncl"'. */
export function describeIssues(issues: readonly Issue[], input: unknown, origin: Origin): string[] {
  return issues.flatMap((issue) => describe(issue, input, origin));
}

function describe(issue: Issue, input: unknown, origin: Origin): string[] {
  const at = keyName(issue.path, origin);
  switch (issue.code) {
    case 'unrecognized_keys':
      return unknownKeys(issue.keys, issue.path, origin);
    case 'invalid_value':
      return [
        `${at}: must be one of ${issue.values.map((v) => JSON.stringify(v)).join(', ')}${not(issue, input)}`,
      ];
    case 'invalid_type':
      return [`${at}: must be ${article(issue.expected)}${not(issue, input)}`];
    case 'invalid_key':
      return [`${at}: ${issue.issues[0]?.message ?? issue.message}`];
    default:
      return [`${at}: ${issue.message}${harmless(issue, input)}`];
  }
}

/** Looking for what a key may mean costs more than reading it. */
const KEYS_NAMED = 8;

function unknownKeys(keys: readonly string[], path: readonly PropertyKey[], origin: Origin): string[] {
  const named = keys.slice(0, KEYS_NAMED).map((key) => unknownKey(key, path, origin));
  return keys.length > KEYS_NAMED ? [...named, `${keys.length - KEYS_NAMED} more unknown keys`] : named;
}

function unknownKey(key: string, path: readonly PropertyKey[], origin: Origin): string {
  const at = keyName([...path, key], origin);
  if (/^(api_?key|key|token|bearer|password|secret|authorization)$/i.test(key)) {
    return `${at}: secrets do not belong in this file; put the name of an environment variable in api_key_env`;
  }
  if (origin.kind === 'flags' && path[0] === 'engine') return unknownWord(key);
  const near = nearestKey(key, knownKeys(path));
  return near === null ? `${at}: unknown key` : `${at}: unknown key; did you mean ${near}?`;
}

/** After an engine's address on the command line; its value may be a secret. */
function unknownWord(key: string): string {
  const known = knownKeys(['engine', 0]);
  const near = nearestKey(key, known);
  const which = near === null || near === key ? '' : `; did you mean ${near}?`;
  const whose = known.includes(key) ? 'is not for this backend' : 'is not known';
  return `--engine: ${shortened(JSON.stringify(key))} after the address ${whose}${which}`;
}

/** 'engine[0].url' in a file, '--engine' on the command line. */
function keyName(path: readonly PropertyKey[], origin: Origin): string {
  if (origin.kind === 'flags') return flagName(path);
  let name = '';
  for (const part of path)
    name += typeof part === 'number' ? `[${part}]` : `${name === '' ? '' : '.'}${String(part)}`;
  return name === '' ? 'the file' : name;
}

function flagName(path: readonly PropertyKey[]): string {
  const [first, second] = path;
  if (first === 'timeouts') return `--timeout-${String(second)}`;
  if (first === 'headers') return `--header ${String(second)}`;
  if (first === 'headers_from_env') return `--header-env ${String(second)}`;
  if (first === 'clear_cache' || first === 'packed' || first === 'guardian') return `--[no-]${dashed(first)}`;
  return `--${dashed(String(first))}`;
}

function dashed(key: string): string {
  return key.replaceAll('_', '-');
}

function article(expected: string): string {
  const names: Record<string, string> = {
    boolean: 'true or false',
    number: 'a number',
    string: 'a string',
    array: 'an array ([[engine]] tables, or strings)',
    object: 'a table',
    record: 'a table',
  };
  return names[expected] ?? `a value of type ${expected}`;
}

/** Numbers and addresses are shown as they were given; other text may be a secret that was put into the wrong place. */
function harmless(issue: Issue, input: unknown): string {
  const value = valueAt(issue, input);
  const key = issue.path.at(-1);
  if (typeof value === 'number' || key === 'packed_buffer_bytes') return not(issue, input);
  if (key !== 'url' || typeof value !== 'string') return '';
  return `, not ${shortened(JSON.stringify(value.replace(/\/\/.*@/s, '//…@')))}`;
}

/** What was found instead; header values are never shown. */
function not(issue: Issue, input: unknown): string {
  if (issue.path.includes('headers')) return '';
  const value = valueAt(issue, input);
  return value === undefined ? '' : `, not ${shortened(JSON.stringify(value) ?? String(value))}`;
}

/** An engine may be written as one string, which has no members. */
function valueAt(issue: Issue, input: unknown): unknown {
  let value = input;
  for (const part of issue.path) {
    if (typeof value !== 'object' || value === null) break;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

function shortened(shown: string): string {
  return shown.length > 60 ? `${shown.slice(0, 60)}…` : shown;
}
