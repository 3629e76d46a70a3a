/**
 * Whether an address that discovery hands out is one to send admin requests and credentials to (the rules of prime-rl #3491, contracts/dynamo.md §2.3). Its rule that
 * workers live on the listener's host is left out: workers of several machines are the ordinary case here.
 */
import { BlockList, isIP } from 'node:net';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** No server's own address: unspecified, link-local, multicast. */
const never = new BlockList();
never.addSubnet('0.0.0.0', 8, 'ipv4');
never.addSubnet('169.254.0.0', 16, 'ipv4');
never.addSubnet('224.0.0.0', 3, 'ipv4');
never.addAddress('::', 'ipv6');
never.addSubnet('fe80::', 10, 'ipv6');
never.addSubnet('ff00::', 8, 'ipv6');

/** What is wrong with it, or null. @param listenerHost host name of the URL that discovery was asked under */
export function hygiene(text: string, listenerHost: string): string | null {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return 'is no http or https URL';
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') return 'has a user or a password';
  if (url.search !== '' || url.hash !== '') return 'has a query or a fragment';
  if (url.pathname !== '/') return `has a path, ${url.pathname.slice(0, 80)}: it must be an origin`;
  if (url.port === '0') return 'has port 0';
  const host = bare(url.hostname);
  if (isIn(never, host) || host === '*') return `has the address ${host}, which is nobody's`;
  if (isLoopback(host) && !isLoopback(bare(listenerHost))) {
    return `has the address ${host}, which is this machine here: set DYN_SYSTEM_HOST on the worker to its own`;
  }
  return null;
}

export function isLoopback(host: string): boolean {
  return isIn(loopback, host) || /(^|\.)localhost\.?$/i.test(host);
}

/** '[::1]' without its brackets. */
export function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

function isIn(list: BlockList, host: string): boolean {
  const version = isIP(host);
  if (version === 0) return false;
  return list.check(host, version === 6 ? 'ipv6' : 'ipv4');
}
