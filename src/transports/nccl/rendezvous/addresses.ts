import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { isIP } from 'node:net';
import { WeightcastError } from '../../../errors.js';

const LOOKUP_TIMEOUT_MS = 5_000;

/**
 * The address of this machine that an engine at `url` is reached from: the loopback for an engine on the loopback, else that of
 * the route there. Nothing is sent: connecting a UDP socket only asks the kernel for the route. An engine in a container that
 * publishes its port on the loopback comes from elsewhere; then --master-address must be given.
 * @throws WeightcastError WC_RENDEZVOUS_ADDRESS when the host does not resolve or has no route
 */
export async function localAddressTowards(url: string | URL): Promise<string> {
  const { host, port } = endpoint(url);
  try {
    const { address, family } = await resolve(host);
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    try {
      const connected = once(socket, 'connect');
      socket.connect(port, address);
      await connected;
      return socket.address().address;
    } finally {
      socket.close();
    }
  } catch (cause) {
    throw new WeightcastError(
      'WC_RENDEZVOUS_ADDRESS',
      `this machine finds no way to ${host}: ${String(cause)}`,
      {
        engine: String(url),
        phase: 'rendezvous',
        cause,
      },
    );
  }
}

/** Every IP address of the host of an engine's URL; empty when the engine's name is no URL or does not resolve. */
export async function addressesOf(engine: string): Promise<ReadonlySet<string>> {
  try {
    const found = await lookup(endpoint(engine).host, { all: true });
    return new Set(found.map(({ address }) => address));
  } catch {
    return new Set();
  }
}

function endpoint(url: string | URL): { host: string; port: number } {
  const { hostname, port, protocol } = new URL(url);
  return {
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port),
  };
}

/** IPv4 first: torch's reference rank 0 listens there, and workers connect to what they are told. */
async function resolve(host: string): Promise<{ address: string; family: number }> {
  const family = isIP(host);
  if (family !== 0) return { address: host, family };
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    const error = new Error(`the name did not resolve within ${LOOKUP_TIMEOUT_MS} ms`);
    timer = setTimeout(() => reject(error), LOOKUP_TIMEOUT_MS);
  });
  try {
    return await Promise.race([lookup(host, { order: 'ipv4first' }), tooLate]);
  } finally {
    clearTimeout(timer);
  }
}
