import { WeightcastError } from '../../../errors.js';

/** ncclUniqueId: 128 opaque bytes. */
export const UNIQUE_ID_BYTES = 128;

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const PROTOCOL = Uint8Array.of(0x80, 0x04);
/** FRAME, and the length of what follows. */
const frame = (length: number): Uint8Array => Uint8Array.of(0x95, length, 0, 0, 0, 0, 0, 0, 0);
/** SHORT_BINUNICODE */
const shortText = (value: string): Uint8Array =>
  Buffer.concat([Uint8Array.of(0x8c, value.length), text(value)]);
const MEMOIZE = Uint8Array.of(0x94);
const STACK_GLOBAL = Uint8Array.of(0x93);
const EMPTY_DICT = Uint8Array.of(0x7d);
const SHORT_BINBYTES_128 = Uint8Array.of(0x43, UNIQUE_ID_BYTES);
const TUPLE1 = Uint8Array.of(0x85);
const TUPLE2 = Uint8Array.of(0x86);
const REDUCE = Uint8Array.of(0x52);
const STOP = Uint8Array.of(0x2e);

const CLASS = 'ncclUniqueId';

/** Where Python programs keep the class; the first is vLLM's and is what we write. */
const MODULES = [
  'vllm.distributed.device_communicators.pynccl_wrapper',
  'sglang.srt.distributed.device_communicators.pynccl_wrapper',
] as const;

/** A pickle is fixed bytes around the id. */
interface Form {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

/** What CPython writes: `_ctypes._unpickle(ncclUniqueId, ({}, id))`, every value memoized (contracts/vllm.md §3.3). */
function cpythonForm(module: string, protocol: 4 | 5): Form {
  const m = MEMOIZE;
  const callable = [shortText('_ctypes'), m, shortText('_unpickle'), m, STACK_GLOBAL, m];
  const type = [shortText(module), m, shortText(CLASS), m, STACK_GLOBAL, m];
  const start = Buffer.concat([...callable, ...type, EMPTY_DICT, m, SHORT_BINBYTES_128]);
  const after = Buffer.concat([m, TUPLE2, m, TUPLE2, m, REDUCE, m, STOP]);
  const framed = start.length + UNIQUE_ID_BYTES + after.length;
  return { before: Buffer.concat([Uint8Array.of(0x80, protocol), frame(framed), start]), after };
}

/** The same without frame and memo, as hand-written rank 0s send it. */
function bareForm(module: string): Form {
  const callable = [shortText('_ctypes'), shortText('_unpickle'), STACK_GLOBAL];
  const type = [shortText(module), shortText(CLASS), STACK_GLOBAL];
  return {
    before: Buffer.concat([PROTOCOL, ...callable, ...type, EMPTY_DICT, SHORT_BINBYTES_128]),
    after: Buffer.concat([TUPLE2, TUPLE2, REDUCE, STOP]),
  };
}

/** `ncclUniqueId.from_buffer_copy(id)`, the shortest that Python loads to the right type. */
function copyForm(module: string): Form {
  const callable = [shortText(module), shortText(`${CLASS}.from_buffer_copy`), STACK_GLOBAL];
  return {
    before: Buffer.concat([PROTOCOL, ...callable, SHORT_BINBYTES_128]),
    after: Buffer.concat([TUPLE1, REDUCE, STOP]),
  };
}

const VLLM = cpythonForm(MODULES[0], 4);
const READABLE: readonly Form[] = MODULES.flatMap((module) => [
  cpythonForm(module, 4),
  cpythonForm(module, 5),
  bareForm(module),
  copyForm(module),
]);

/** The 247 bytes that `pickle.dumps` gives for vLLM's `ncclUniqueId`. @throws WeightcastError WC_NATIVE_ARGUMENT */
export function pickleUniqueId(id: Uint8Array): Uint8Array {
  requireIdLength(id);
  return new Uint8Array(Buffer.concat([VLLM.before, id, VLLM.after]));
}

/**
 * The id out of a pickle of exactly the forms known here (protocol 4 and 5 of vLLM's and SGLang's class, and the two
 * hand-written variants). The bytes are compared, never interpreted: nothing in them can name code that runs.
 * @throws WeightcastError WC_RENDEZVOUS_PROTOCOL for any other bytes
 */
export function unpickleUniqueId(pickled: Uint8Array): Uint8Array {
  for (const { before, after } of READABLE) {
    if (pickled.length !== before.length + UNIQUE_ID_BYTES + after.length) continue;
    const end = before.length + UNIQUE_ID_BYTES;
    const around = Buffer.concat([pickled.subarray(0, before.length), pickled.subarray(end)]);
    if (around.equals(Buffer.concat([before, after]))) return pickled.slice(before.length, end);
  }
  throw new WeightcastError(
    'WC_RENDEZVOUS_PROTOCOL',
    `the ${pickled.length} bytes under the unique id's key are no pickled ncclUniqueId`,
    { phase: 'rendezvous' },
  );
}

/** `nccl_unique_id_b64`: standard base64, 172 characters. @throws WeightcastError WC_NATIVE_ARGUMENT */
export function encodeUniqueId(id: Uint8Array): string {
  requireIdLength(id);
  return Buffer.from(id).toString('base64');
}

/** @throws WeightcastError WC_RENDEZVOUS_PROTOCOL unless it is the canonical base64 of 128 bytes */
export function decodeUniqueId(base64: string): Uint8Array {
  const id = new Uint8Array(base64.length === 172 ? Buffer.from(base64, 'base64') : []);
  if (id.length === UNIQUE_ID_BYTES && Buffer.from(id).toString('base64') === base64) return id;
  throw new WeightcastError('WC_RENDEZVOUS_PROTOCOL', 'nccl_unique_id_b64 is not the base64 of 128 bytes', {
    phase: 'rendezvous',
  });
}

function requireIdLength(id: Uint8Array): void {
  if (id.length === UNIQUE_ID_BYTES) return;
  throw new WeightcastError('WC_NATIVE_ARGUMENT', `a unique id has 128 bytes, not ${id.length}`);
}
