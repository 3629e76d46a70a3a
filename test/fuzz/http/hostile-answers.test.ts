import type { Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { createHttpClient } from '../../../src/engines/http.js';
import { vllmAdmin } from '../../../src/engines/vllm/admin.js';
import { connectVllm } from '../../../src/engines/vllm/connect.js';
import { selectDialect } from '../../../src/engines/vllm-native/dialects.js';
import type { ErrorCode } from '../../../src/errors.js';
import { errorOf, QUICK } from '../../engines/client.js';
import { measured } from '../store/measure.js';
import { endlessly, head, withRawServer } from './raw-server.js';

const MiB = 1024 * 1024;
const { dialect } = selectDialect('0.33.0');
const admin = vllmAdmin({ engine: 'e', version: '0.33.0', notes: [] }, dialect);
const json = (body: string, ...more: string[]): string =>
  head(['content-type: application/json', `content-length: ${Buffer.byteLength(body)}`, ...more]) + body;
const chunked = head(['content-type: application/json', 'transfer-encoding: chunked']);
const chunk = (body: string): string => `${body.length.toString(16)}\r\n${body}\r\n`;
const sends = (bytes: string | Uint8Array) => (socket: Socket) => void socket.write(bytes);
const then =
  (first: string, rest: string) =>
  (socket: Socket): void => {
    socket.write(first);
    endlessly(socket, rest);
  };
const spaces = ' '.repeat(65_536);

test.each<[string, (socket: Socket) => void, ErrorCode, RegExp | null]>([
  ['a body that never ends', then(chunked, chunk(spaces)), 'WC_ENGINE_PROTOCOL', /larger than 1048576 bytes/],
  [
    'a body of a length that no memory has',
    then(head(['content-length: 9007199254740991']), spaces),
    'WC_ENGINE_PROTOCOL',
    /larger than/,
  ],
  [
    'a list nested without end',
    then(chunked, chunk('['.repeat(4096))),
    'WC_ENGINE_PROTOCOL',
    /nested more than 64/,
  ],
  [
    'an error nested a thousand deep',
    sends(json(`{"detail":${'['.repeat(1000)}${']'.repeat(1000)}}`)),
    'WC_ENGINE_PROTOCOL',
    /nested more than 64/,
  ],
  [
    'empty lists without end',
    then(`${chunked}${chunk('[')}`, chunk('[],'.repeat(4096))),
    'WC_ENGINE_PROTOCOL',
    /more than 20000 values/,
  ],
  [
    'empty objects under ever new names',
    then(`${chunked}${chunk('{')}`, chunk('"a":{},'.repeat(4096))),
    'WC_ENGINE_PROTOCOL',
    /more than 20000 values/,
  ],
  [
    'a header that never ends',
    then('HTTP/1.1 200 OK\r\nx: ', 'a'.repeat(4096)),
    'WC_ENGINE_PROTOCOL',
    /not answer in HTTP/,
  ],
  [
    'headers without end',
    then('HTTP/1.1 200 OK\r\n', 'x: y\r\n'.repeat(1000)),
    'WC_ENGINE_PROTOCOL',
    /not answer in HTTP/,
  ],
  [
    'trailers without end',
    then(`${chunked}${chunk('{}')}0\r\n`, 'x: y\r\n'.repeat(1000)),
    'WC_ENGINE_PROTOCOL',
    /not answer in HTTP/,
  ],
  [
    'informational answers without end',
    then('', head([], '103 Early Hints').repeat(100)),
    'WC_ENGINE_TIMEOUT',
    null,
  ],
  ['a chunk extension without end', then(`${chunked}2;x=`, 'y'.repeat(4096)), 'WC_ENGINE_TIMEOUT', null],
  ['a byte at a time', (socket) => void drip(socket, json('{"status":"paused"}')), 'WC_ENGINE_TIMEOUT', null],
  ['headers and no body', sends(head(['content-length: 100'])), 'WC_ENGINE_TIMEOUT', null],
  [
    'a redirect, which is not followed',
    sends(head(['location: http://127.0.0.1:1/', 'content-length: 0'], '307 Temporary Redirect')),
    'WC_ENGINE_HTTP',
    /answered 307/,
  ],
  [
    'a gzip bomb, which is not unpacked',
    sends(bomb()),
    'WC_ENGINE_PROTOCOL',
    /expected \{"status":"paused"\}/,
  ],
  [
    'bytes that are no UTF-8',
    sends(Buffer.from(`${head(['content-length: 19'])}{"status":"pa\xffsed"}`, 'latin1')),
    'WC_ENGINE_PROTOCOL',
    null,
  ],
  ['not HTTP at all', sends('SSH-2.0-OpenSSH_9.2\r\n'), 'WC_ENGINE_PROTOCOL', /not answer in HTTP/],
  ['no JSON', sends(json('<html>')), 'WC_ENGINE_PROTOCOL', null],
  ['JSON of another type', sends(json('["status","paused"]')), 'WC_ENGINE_PROTOCOL', null],
  [
    'the field by way of a prototype',
    sends(json('{"__proto__":{"status":"paused"}}')),
    'WC_ENGINE_PROTOCOL',
    null,
  ],
  ['NaN', sends(json('{"status":NaN}')), 'WC_ENGINE_PROTOCOL', null],
  [
    'a body cut short',
    (socket) => void socket.end(`${head(['content-length: 100'])}{"status"`),
    'WC_ENGINE_UNREACHABLE',
    null,
  ],
])('%s ends in an error, in time and in bounded memory', async (_, answer, code, message) => {
  await withRawServer(answer, async (engine) => {
    await using http = createHttpClient({ retry: { ...QUICK, attempts: 1 } });
    const pause = admin.pause({ mode: 'keep', clearCache: false });
    const began = performance.now();
    const { rssGrowth } = await measured(async () => {
      const error = await errorOf(http.exchange(engine, pause, { timeoutMs: 1_500 }));
      expect(error.code, error.message).toBe(code);
      if (message !== null) expect(error.message).toMatch(message);
      expect(error.message.length).toBeLessThan(2_000);
    });
    expect(performance.now() - began).toBeLessThan(1_500 + 1_000 + 5_000); // the deadline, a second, and a busy machine
    expect(rssGrowth).toBeLessThan(128 * MiB);
  });
});

test('a doubled key counts as its last, and a wrong content type is not looked at', () =>
  withRawServer(
    sends(json('{"status":1,"status":"paused"}').replace('application/json', 'image/png')),
    async (engine) => {
      await using http = createHttpClient();
      await http.exchange(engine, admin.pause({ mode: 'keep', clearCache: false }), { timeoutMs: 5_000 });
    },
  ));

test.each([
  ['a version of a megabyte', `{"version":"0.33.0-${'a'.repeat(MiB)}"}`],
  ['a version as an object', '{"version":{"toString":"0.33.0"}}'],
  ['no version', '{"__proto__":{"version":"0.33.0"}}'],
])('%s is no vLLM', (_, body) =>
  withRawServer(sends(json(body)), async (engine) => {
    await using http = createHttpClient({ retry: { ...QUICK, attempts: 1 } });
    expect((await errorOf(connectVllm(http, engine))).code).toBe('WC_ENGINE_PROTOCOL');
  }),
);

test('sixty-four megabytes of checksums that are none cost memory in proportion and are refused', () => {
  const entry = `"dp0:pp0:pcp0:tp0:${'x'.repeat(60)}":"${'0'.repeat(64)}",`.repeat(400);
  return withRawServer(then(`${chunked}${chunk('{"checksums":{')}`, chunk(entry)), async (engine) => {
    await using http = createHttpClient({ retry: { ...QUICK, attempts: 1 } });
    const { rssGrowth } = await measured(async () => {
      const error = await errorOf(http.exchange(engine, admin.checksums()!, { timeoutMs: 30_000 }));
      expect(error.message).toMatch(/larger than|values/);
    });
    expect(rssGrowth).toBeLessThan(256 * MiB);
  });
});

function bomb(): Buffer {
  const packed = gzipSync(Buffer.alloc(64 * MiB, 0x20));
  const headers = [
    'content-type: application/json',
    'content-encoding: gzip',
    `content-length: ${packed.length}`,
  ];
  return Buffer.concat([Buffer.from(head(headers)), packed]);
}

async function drip(socket: Socket, text: string): Promise<void> {
  for (const byte of text) {
    if (socket.destroyed) return;
    await new Promise((resolve) => socket.write(byte, resolve));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
