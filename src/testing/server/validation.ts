/** Request validation as FastAPI and vLLM's handlers of each version word it. */
import type { Profile } from './profile.js';
import { type Answer, badRequest, failure } from './replies.js';

/** What a handler sees of a request. */
export interface Request {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  /** Lower-case media type without parameters; null when the header is missing. */
  readonly contentType: string | null;
  readonly authorization: string | null;
  readonly text: string;
}

/** Thrown by handlers: the answer itself. */
export class Refusal extends Error {
  readonly answer: Answer;

  constructor(answer: Answer) {
    super(`refused with status ${answer.status}`);
    this.answer = answer;
  }
}

export type JsonObject = Readonly<Record<string, unknown>>;

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Python's repr of a JSON value, as it shows in messages. */
export function pythonRepr(value: unknown): string {
  if (value === null || value === undefined) {
    return 'None';
  }
  if (typeof value === 'boolean') {
    return value ? 'True' : 'False';
  }
  if (typeof value === 'string') {
    return value.includes("'") ? JSON.stringify(value) : `'${value}'`;
  }
  if (Array.isArray(value)) {
    return `[${value.map(pythonRepr).join(', ')}]`;
  }
  if (isObject(value)) {
    const items = Object.entries(value).map(([key, item]) => `${pythonRepr(key)}: ${pythonRepr(item)}`);
    return `{${items.join(', ')}}`;
  }
  return String(value);
}

/** From 0.30 on the input is quoted as a string, and containers only by their size. */
function inputRepr(profile: Profile, value: unknown): string {
  if (profile.validation !== 'dotted') {
    return pythonRepr(value);
  }
  if (Array.isArray(value)) {
    return `'<list of ${value.length} items>'`;
  }
  if (isObject(value)) {
    return `'<dict of ${Object.keys(value).length} items>'`;
  }
  return typeof value === 'string' ? pythonRepr(value) : `'${pythonRepr(value)}'`;
}

function pythonTuple(parts: readonly (string | number)[]): string {
  const items = parts.map((part) => (typeof part === 'number' ? String(part) : `'${part}'`));
  return items.length === 1 ? `(${items[0]},)` : `(${items.join(', ')})`;
}

export interface Problem {
  readonly type: string;
  readonly loc: readonly (string | number)[];
  readonly msg: string;
  readonly input: unknown;
  /** Python text of the context, when there is one. */
  readonly ctx?: string;
  /** What `param` says, when it is not the location. */
  readonly param?: string;
}

/** 400 with the list of what is wrong. */
export function invalid(profile: Profile, problems: readonly Problem[]): Refusal {
  const lines = problems.map((problem) => {
    const loc = profile.validation === 'dotted' ? `'${problem.loc.join('.')}'` : pythonTuple(problem.loc);
    const msg = problem.msg.includes("'") ? `"${problem.msg}"` : `'${problem.msg}'`;
    const context = problem.ctx === undefined ? '' : `, 'ctx': ${problem.ctx}`;
    return `\n  {'type': '${problem.type}', 'loc': ${loc}, 'msg': ${msg}, 'input': ${inputRepr(profile, problem.input)}${context}}`;
  });
  const count = problems.length === 1 ? '1 validation error' : `${problems.length} validation errors`;
  const [first] = problems;
  const param = profile.namesField ? (first?.param ?? first?.loc.join('.') ?? null) : null;
  return new Refusal(failure(400, 'Bad Request', `${count}:${lines.join('')}`, param));
}

export const missing = (profile: Profile, field: string, input: unknown): Refusal =>
  invalid(profile, [{ type: 'missing', loc: ['body', field], msg: 'Field required', input }]);

/** Python's complaint about a text that is not JSON, and where. */
export function jsonProblem(text: string): { readonly message: string; readonly offset: number } {
  return text.trimStart().startsWith('{')
    ? { message: 'Expecting property name enclosed in double quotes', offset: 1 }
    : { message: 'Expecting value', offset: 0 };
}

export function parseJson(text: string): { readonly value: unknown } | null {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return null;
  }
}

/** A body that FastAPI parses itself: only with a JSON content type; anything but an object counts as absent. */
export function typedBody(profile: Profile, request: Request): JsonObject | null {
  if (request.text === '' || request.contentType !== 'application/json') {
    return null;
  }
  const parsed = parseJson(request.text);
  if (parsed === null) {
    const { message, offset } = jsonProblem(request.text);
    throw invalid(profile, [
      {
        type: 'json_invalid',
        loc: ['body', offset],
        msg: 'JSON decode error',
        input: {},
        ctx: `{'error': '${message}'}`,
      },
    ]);
  }
  return isObject(parsed.value) ? parsed.value : null;
}

/** A body that a handler of 0.16–0.30 reads by hand, whatever the content type. */
export function looseBody(request: Request): unknown {
  const parsed = parseJson(request.text);
  if (parsed === null) {
    throw new Refusal(badRequest('Invalid JSON format'));
  }
  return parsed.value;
}

/** A query flag as pydantic reads booleans. */
export function queryFlag(profile: Profile, request: Request, name: string, fallback: boolean): boolean {
  const value = request.query.get(name);
  if (value === null) {
    return fallback;
  }
  const lower = value.toLowerCase();
  if (['1', 'true', 't', 'yes', 'y', 'on'].includes(lower)) {
    return true;
  }
  if (['0', 'false', 'f', 'no', 'n', 'off'].includes(lower)) {
    return false;
  }
  throw invalid(profile, [
    {
      type: 'bool_parsing',
      loc: ['query', name],
      msg: 'Input should be a valid boolean, unable to interpret input',
      input: value,
    },
  ]);
}

/** A query choice, refused with the list of choices. */
export function queryChoice<T extends string>(
  profile: Profile,
  request: Request,
  name: string,
  choices: readonly T[],
  fallback: T,
  loc: 'query' | 'body' = 'query',
): T {
  return choice(profile, [loc, name], request.query.get(name) ?? fallback, choices);
}

export function choice<T extends string>(
  profile: Profile,
  loc: readonly string[],
  value: unknown,
  choices: readonly T[],
): T {
  const found = choices.find((item) => item === value);
  if (found !== undefined) {
    return found;
  }
  const quoted = choices.map((item) => `'${item}'`);
  const list = `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`;
  throw invalid(profile, [
    {
      type: 'literal_error',
      loc,
      msg: `Input should be ${list}`,
      input: value,
      ctx: `{'expected': "${list}"}`,
    },
  ]);
}
