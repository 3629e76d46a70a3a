/** Answers of a server, as the fuzzers drive their readers. First byte: the route. Second: the status. Third: after how many bytes the body is cut. Then the body. */
import type { Exchange } from '../../../src/engines/admin.js';
import { ANSWER_LIMITS, Answer } from '../../../src/engines/answer.js';
import { expectTrue, type FuzzTarget, text, valueOrRefusal } from './target.js';

export type Check = (value: unknown) => void;

export interface Route {
  readonly exchange: Exchange<unknown>;
  /** Throws where the value is not what its users count on. */
  readonly check: Check;
}

export const STATUSES = [200, 200, 200, 200, 400, 401, 404, 500, 503] as const;

/** What a server may have answered on the route of this path, or of this operation. */
export interface Said {
  readonly route: string;
  readonly status?: number;
  readonly body: string;
}

/** Longer ones are mutated to no end. */
const LONGEST_SEED = 2_000;

/** The readers of these exchanges. Whatever is none of these routes' is left out of the seeds. */
export function answerTarget(name: string, routes: readonly Route[], said: readonly Said[]): FuzzTarget {
  return {
    name,
    seeds: () =>
      said.flatMap(({ route, status = 200, body }) => {
        const index = routes.findIndex(
          ({ exchange }) => exchange.path === route || exchange.operation === route,
        );
        const code = STATUSES.indexOf(status as 200);
        if (index < 0 || code < 0 || body.length > LONGEST_SEED) return [];
        return [Buffer.concat([Uint8Array.of(index, code, 63), text(body)])];
      }),
    run: (input) => runAnswer(routes, input),
  };
}

/** Feeds one answer to its reader. @throws what is neither a value that passes its check nor a refusal with a code */
export function runAnswer(routes: readonly Route[], input: Uint8Array): void {
  const { exchange, check } = routes[(input[0] ?? 0) % routes.length]!;
  const status = STATUSES[(input[1] ?? 0) % STATUSES.length]!;
  const stride = (input[2] ?? 0) + 1;
  const answer = new Answer({ ...ANSWER_LIMITS[exchange.budget], ...exchange.limits, values: 2_000 });
  for (let at = 3; at < input.length; at += stride) {
    if (answer.add(input.subarray(at, at + stride)) !== null) return;
  }
  const reply = { status, contentType: null, ...answer.read() };
  const value = valueOrRefusal(
    () => ({ value: exchange.read(reply) }),
    'WC_ENGINE_HTTP',
    'WC_ENGINE_PROTOCOL',
    'WC_ENGINE_DEAD',
    'WC_ENGINE_DEV_MODE',
    'WC_ENGINE_NOT_CONFIGURED',
    'WC_ENGINE_UNAUTHORIZED',
  );
  if (value !== null) check(value.value);
}

export const anything: Check = () => {};

const isName = (value: unknown): boolean => typeof value === 'string' && value.length <= 1024;
export const aName: Check = (value) => expectTrue(isName(value), 'no name');
export const yesNo: Check = (value) => expectTrue(typeof value === 'boolean', 'neither true nor false');
export const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
export const aCount: Check = (value) =>
  expectTrue(Number.isSafeInteger(value) && (value as number) >= 0, 'no count');
export const aTime: Check = (value) => expectTrue(Number.isFinite(value), 'no time');
export const scores =
  (length: number): Check =>
  (value) =>
    expectTrue(
      Array.isArray(value) && value.length === length && value.every(Number.isFinite),
      'no finite number for each token',
    );
export const cards: Check = (value) =>
  expectTrue(
    Array.isArray(value) &&
      value.every(({ id, root }) => isName(id) && (root === null || typeof root === 'string')),
    'no models',
  );
