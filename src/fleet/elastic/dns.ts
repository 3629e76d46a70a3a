/** The engines behind a name: one for each of its addresses. */
import { lookup as systemLookup } from 'node:dns/promises';
import { isIPv4, isIPv6 } from 'node:net';
import type { EngineTarget } from '../../engines/http.js';
import { onAbort } from '../../engines/on-abort.js';
import { WeightcastError } from '../../errors.js';
import type { MembershipSource } from '../membership.js';

/** All addresses of a name, A and AAAA, in any order. */
export type DnsLookup = (hostname: string) => Promise<readonly string[]>;

export interface DnsSourceOptions {
  readonly hostname: string;
  readonly port: number;
  readonly scheme?: 'http' | 'https' | undefined;
  readonly family?: 4 | 6 | undefined;
  readonly toTarget: (url: string) => EngineTarget;
  readonly lookup?: DnsLookup | undefined;
}

const MAX_ADDRESSES = 4096;

/** getaddrinfo and not the DNS protocol: the short names of Kubernetes need the search domains, and /etc/hosts is a way to say where engines are. */
const bySystem: DnsLookup = async (hostname) =>
  (await systemLookup(hostname, { all: true })).map(({ address }) => address);

/** @throws WeightcastError WC_DISCOVERY_FAILED from `poll`, also for a name that does not exist: which a resolver in trouble says too */
export function dnsSource(options: DnsSourceOptions): MembershipSource {
  const { hostname, port, scheme = 'http', family, toTarget, lookup = bySystem } = options;
  const name = `dns ${hostname}:${port}`;
  return {
    name,
    remedy: `Check what ${hostname} resolves to (getent ahosts ${hostname}); a headless service lists pods only once they are ready, unless it publishes those that are not.`,
    async poll(signal) {
      const addresses = await untilAborted(lookup(hostname), signal).catch((cause: unknown) => {
        signal.throwIfAborted();
        const why = cause instanceof Error ? cause.message : String(cause);
        throw new WeightcastError('WC_DISCOVERY_FAILED', `${name}: ${why}`, { phase: 'discovery', cause });
      });
      const urls = urlsOf(addresses, { port, scheme, family });
      return { members: urls.map((url) => ({ target: toTarget(url), identity: null })), unusable: [] };
    },
  };
}

/** One URL for each address, in an order that does not depend on the answer's. */
export function urlsOf(
  addresses: readonly string[],
  {
    port,
    scheme,
    family,
  }: { readonly port: number; readonly scheme: string; readonly family?: 4 | 6 | undefined },
): string[] {
  const plain = addresses
    .map((address) => /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address)
    // fe80::1%eth0 is an address on one link of this machine, not an engine's name.
    .filter((address) => (isIPv4(address) || isIPv6(address)) && !address.includes('%'))
    .filter((address) => family === undefined || isIPv4(address) === (family === 4));
  const urls = plain
    .slice(0, MAX_ADDRESSES)
    .map((address) => new URL(`${scheme}://${isIPv6(address) ? `[${address}]` : address}:${port}`).origin);
  return [...new Set(urls)].sort((a, b) => (a < b ? -1 : 1));
}

/** getaddrinfo can't be called off; it is not waited for either. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const release = onAbort(signal, () => reject(signal.reason));
    // Nobody is told of an abort that was before; and the work, begun all the same, must not fail unheard.
    if (signal.aborted) reject(signal.reason);
    work.then(resolve, reject).finally(release);
  });
}
