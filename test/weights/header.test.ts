import { describe, expect, it, vi } from 'vitest';
import { NameTable } from '../../src/weights/header/names.js';
import { parseOnThread } from '../../src/weights/header/thread.js';
import { HeaderError, parseHeader, tensorsOf } from '../../src/weights/header.js';
import { runToEnd } from '../../src/weights/yielding.js';

const shared = (text: string): SharedArrayBuffer => {
  const bytes = Buffer.from(text);
  const buffer = new SharedArrayBuffer(bytes.length);
  Buffer.from(buffer).set(bytes);
  return buffer;
};

/** A header as the reference library writes it, of tensors one after another. */
function compact(
  entries: readonly { name: string; dtype: { name: string; bits: number }; shape: number[] }[],
) {
  let offset = 0;
  const header = entries.map(({ name, dtype, shape }) => {
    const begin = offset;
    offset += shape.reduce((product, dimension) => product * dimension, dtype.bits) / 8;
    return `${JSON.stringify(name)}:{"dtype":"${dtype.name}","shape":[${shape}],"data_offsets":[${begin},${offset}]}`;
  });
  return { text: `{"__metadata__":{"format":"pt"},${header.join(',')}}`, dataBytes: offset };
}

describe('names', () => {
  /** The table's hash: FNV-1a and a mixing step. */
  function hash(name: string): number {
    let value = 0x811c9dc5;
    for (const byte of Buffer.from(name)) value = Math.imul(value ^ byte, 0x01000193);
    value = Math.imul(value ^ (value >>> 15), 0x85ebca6b);
    return (value ^ (value >>> 13)) >>> 0;
  }

  it('are told apart in a file that makes their hashes collide', () => {
    const names: string[] = [];
    for (let i = 0; names.length < 1500; i += 1) if ((hash(`n${i}`) & 4095) < 64) names.push(`n${i}`);
    const table = new NameTable(3000, 64 * 1024);
    const add = (name: string) => table.add(Buffer.from(name), 0, Buffer.byteLength(name));
    expect(names.map(add)).toEqual(names.map(() => true));
    expect(names.map(add)).toEqual(names.map(() => false));
    expect(add('another')).toBe(true);
    expect(names.map((_, index) => table.at(index))).toEqual(names);
  });
});

describe('a header on a thread of its own', () => {
  const tensors = Array.from({ length: 20_000 }, (_, i) => ({
    name: `layers.${i}.é`,
    dtype: { name: i % 7 === 0 ? 'F32' : 'BF16', bits: i % 7 === 0 ? 32 : 16 },
    shape: [i % 5, 8],
  }));
  const { text, dataBytes } = compact(tensors);

  it('gives what it gives here', async () => {
    const columns = await parseOnThread({ header: shared(text), dataBytes }, null);
    expect(columns).not.toBeNull();
    const here = runToEnd(parseHeader(Buffer.from(text), dataBytes));
    const placement = { path: '/model', headerByteLength: 8 };
    expect(runToEnd(tensorsOf(columns ?? here, placement))).toEqual(runToEnd(tensorsOf(here, placement)));
    expect(columns?.metadataAt).toBe(here.metadataAt);
  });

  it('is refused with the same words and facts', async () => {
    const broken = text.replace('"layers.19999.é":{', '"layers.19999.é":{"x":1,"x":2,');
    const there = await parseOnThread({ header: shared(broken), dataBytes }, null).catch((error) => error);
    const caught = await (async () => runToEnd(parseHeader(Buffer.from(broken), dataBytes)))().catch(
      (error: unknown) => error,
    );
    expect(there).toBeInstanceOf(HeaderError);
    expect(there).toMatchObject({ ...(caught as HeaderError), message: (caught as HeaderError).message });
    expect(there.tensor).toBe('layers.19999.é');
  });

  it('ends with the signal', async () => {
    const controller = new AbortController();
    const parsing = parseOnThread({ header: shared(text), dataBytes }, controller.signal);
    controller.abort(new Error('enough'));
    await expect(parsing).rejects.toThrow('enough');
    expect(process.getActiveResourcesInfo()).not.toContain('Worker');
  });

  it('is left to the caller when no thread can be had', async () => {
    vi.resetModules();
    vi.doMock('node:worker_threads', () => ({
      Worker: class {
        constructor() {
          throw Object.assign(new Error('no more threads'), { code: 'ERR_WORKER_INIT_FAILED' });
        }
      },
    }));
    try {
      const alone = await import('../../src/weights/header/thread.js');
      expect(await alone.parseOnThread({ header: shared(text), dataBytes }, null)).toBeNull();
    } finally {
      vi.doUnmock('node:worker_threads');
      vi.resetModules();
    }
  });
});
