import { hostname } from 'node:os';

/**
 * The name under which an engine is claimed: its URL with one spelling. What a resolver would find to be the same address is not: two pushes that name
 * one server by different host names don't see one another.
 */
export function engineKey(url: string): string {
  const parsed = new URL(url);
  const name = parsed.hostname.replace(/\.$/, '');
  const loopback = name === 'localhost' || name === '[::1]' || /^127(\.\d+){3}$/.test(name);
  // Every host of a shared state directory has its own loopback.
  const host = loopback ? `localhost@${hostname()}` : name;
  const port = parsed.port || (parsed.protocol === 'https:' ? '443' : '80');
  return `${host}:${port}${parsed.pathname.replace(/\/+$/, '')}`;
}
