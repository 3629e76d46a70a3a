import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  decodeUniqueId,
  encodeUniqueId,
  pickleUniqueId,
  unpickleUniqueId,
} from '../../../../src/transports/nccl/rendezvous/unique-id.js';

const { pickles } = JSON.parse(
  readFileSync(new URL('../../../vectors/tcpstore-vectors.json', import.meta.url), 'utf8'),
);
const dumps = pickles.cpython_dumps as Readonly<Record<string, string>>;
const handmade = pickles['handmade_checked_with_C_and_pure_python_unpickler_on_3.11_and_3.13'] as Readonly<
  Record<string, string>
>;

const IDS = {
  seq: Uint8Array.from({ length: 128 }, (_, i) => i),
  high: Uint8Array.from({ length: 128 }, (_, i) => i + 128),
  zero: new Uint8Array(128),
} as const;

const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
const id = fc.uint8Array({ minLength: 128, maxLength: 128 });

test.each(Object.entries(IDS))('the id "%s" is pickled exactly as CPython does', (name, value) => {
  const pickled = pickleUniqueId(value);
  expect(pickled).toHaveLength(247);
  expect(Buffer.from(pickled).toString('hex')).toBe(dumps[`vllm_ncclUniqueId_${name}_proto4`]);
});

test.each(
  Object.entries(IDS).flatMap(([name, value]) =>
    ['vllm', 'sglang'].flatMap((owner) => [4, 5].map((protocol) => ({ name, owner, protocol, value }))),
  ),
)("$owner's pickle of $name, protocol $protocol, is read", ({ name, owner, protocol, value }) => {
  expect(unpickleUniqueId(unhex(dumps[`${owner}_ncclUniqueId_${name}_proto${protocol}`]!))).toEqual(value);
});

test.each(Object.keys(handmade).filter((name) => name.includes('ncclUniqueId')))(
  'the variant %s is read',
  (name) => {
    expect(unpickleUniqueId(unhex(handmade[name]!))).toEqual(IDS.seq);
  },
);

test('every other recorded pickle is refused', () => {
  const others = Object.entries(dumps).filter(([name]) => !/ncclUniqueId_.*proto[45]$/.test(name));
  expect(others.length).toBeGreaterThan(15);
  for (const [name, text] of others) {
    expect(() => unpickleUniqueId(unhex(text)), name).toThrow(
      expect.objectContaining({ code: 'WC_RENDEZVOUS_PROTOCOL' }),
    );
  }
});

test('whatever the id, it comes back, and one changed byte around it is refused', () => {
  fc.assert(
    fc.property(id, fc.nat(118), fc.integer({ min: 1, max: 255 }), (value, place, flip) => {
      const pickled = pickleUniqueId(value);
      expect(unpickleUniqueId(pickled)).toEqual(value);
      const at = place < 111 ? place : place + 128;
      pickled[at] = pickled[at]! ^ flip;
      const protocol5 = at === 1 && pickled[at] === 5;
      if (protocol5) expect(unpickleUniqueId(pickled)).toEqual(value);
      else expect(() => unpickleUniqueId(pickled)).toThrow('no pickled ncclUniqueId');
    }),
  );
});

test('truncated and lengthened pickles are refused', () => {
  const pickled = pickleUniqueId(IDS.seq);
  for (let length = 0; length < pickled.length; length++) {
    expect(() => unpickleUniqueId(pickled.subarray(0, length))).toThrow('no pickled ncclUniqueId');
  }
  expect(() => unpickleUniqueId(Buffer.concat([pickled, pickled]))).toThrow('no pickled ncclUniqueId');
});

test('the base64 form has 172 characters and reads back; anything but canonical base64 of 128 bytes is refused', () => {
  fc.assert(
    fc.property(id, (value) => {
      expect(encodeUniqueId(value)).toMatch(/^[A-Za-z0-9+/]{171}=$/);
      expect(decodeUniqueId(encodeUniqueId(value))).toEqual(value);
    }),
  );
  const good = encodeUniqueId(IDS.high);
  for (const bad of [
    '',
    good.slice(1),
    `${good}=`,
    good.replace('=', '!'),
    good.replaceAll('+', '-').replaceAll('/', '_'),
  ]) {
    expect(() => decodeUniqueId(bad), bad).toThrow('not the base64 of 128 bytes');
  }
});

test('an id of another length is refused', () => {
  expect(() => pickleUniqueId(new Uint8Array(127))).toThrow('128 bytes');
  expect(() => encodeUniqueId(new Uint8Array(129))).toThrow('128 bytes');
});
