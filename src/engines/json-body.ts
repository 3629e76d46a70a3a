/**
 * JSON bodies that are encoded before they are needed: the list of a large MoE's tensors is megabytes, the same for every engine, and is sent while the fleet
 * is paused.
 */
import { runInSlices, type Steps } from '../weights/yielding.js';

/** Elements encoded between two yields. */
const ELEMENTS_PER_STEP = 1024;
const MAX_DEPTH = 3;

/** By the body itself, for as long as its owner keeps it. */
const ahead = new WeakMap<object, Buffer>();

/** Encodes a body in slices, once however often it is asked for. @throws the signal's reason */
export async function encodeAhead(body: object | null, signal: AbortSignal | null): Promise<void> {
  if (body === null || ahead.has(body)) return;
  ahead.set(body, await runInSlices(jsonSteps(body), signal));
}

/** Says itself what goes over the wire for a body: numbers that JSON.stringify can't write. */
export function encodeAs(body: object, text: string): void {
  ahead.set(body, Buffer.from(text));
}

/** What goes over the wire for a body. */
export function encoded(body: object): Buffer | string {
  return ahead.get(body) ?? JSON.stringify(body);
}

/** The bytes of JSON.stringify, for data: no toJSON but Date's, no undefined in arrays. */
export function* jsonSteps(value: unknown): Steps<Buffer> {
  const parts: Buffer[] = [];
  yield* write(value, 0, parts);
  return Buffer.concat(parts);
}

function* write(value: unknown, depth: number, parts: Buffer[]): Steps<void> {
  const put = (text: string) => parts.push(Buffer.from(text));
  if (Array.isArray(value) && value.length > ELEMENTS_PER_STEP) {
    for (let from = 0; from < value.length; from += ELEMENTS_PER_STEP) {
      const some = JSON.stringify(value.slice(from, from + ELEMENTS_PER_STEP)).slice(1, -1);
      put(`${from === 0 ? '[' : ','}${some}`);
      yield;
    }
    put(']');
  } else if (depth < MAX_DEPTH && typeof value === 'object' && value !== null) {
    const isArray = Array.isArray(value);
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    put(isArray ? '[' : '{');
    for (const [index, [key, member]] of members.entries()) {
      put(`${index === 0 ? '' : ','}${isArray ? '' : `${JSON.stringify(key)}:`}`);
      yield* write(member, depth + 1, parts);
    }
    put(isArray ? ']' : '}');
  } else {
    put(JSON.stringify(value));
  }
}
