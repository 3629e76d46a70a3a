import { networkInterfaces } from 'node:os';
import { expect, test } from 'vitest';
import { addressesOf, localAddressTowards } from '../../../../src/transports/nccl/rendezvous/addresses.js';

test.each(['http://127.0.0.1:8000', 'https://127.0.0.1', 'http://localhost:8000/v1'])(
  'an engine at %s is met on the loopback',
  async (url) => expect(await localAddressTowards(url)).toBe('127.0.0.1'),
);

test('an engine on another loopback address is reached from the loopback', async () => {
  expect(await localAddressTowards(new URL('http://127.0.0.9:1'))).toMatch(/^127\./);
});

test('an engine on this machine by its own address is met there', async () => {
  const own = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter(({ family }) => family === 'IPv4');
  expect(own.length).toBeGreaterThan(0);
  for (const { address } of own) expect(await localAddressTowards(`http://${address}:80`)).toBe(address);
});

test('a host that does not resolve is an address problem', async () => {
  await expect(localAddressTowards('http://nowhere.invalid:8000')).rejects.toMatchObject({
    code: 'WC_RENDEZVOUS_ADDRESS',
    message: expect.stringContaining('nowhere.invalid'),
  });
});

test('the addresses of an engine are those of its host, and none when there is no telling', async () => {
  expect(await addressesOf('http://127.0.0.1:8000')).toEqual(new Set(['127.0.0.1']));
  expect(await addressesOf('http://[::1]:8000')).toEqual(new Set(['::1']));
  expect(await addressesOf('engine seven')).toEqual(new Set());
  expect(await addressesOf('http://nowhere.invalid:1')).toEqual(new Set());
});
