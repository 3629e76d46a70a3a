/**
 * The pods of a name, each with the Dynamo worker that runs in it. prime-rl #2773 fell back to the first worker where none matched, and so paused one worker
 * many times and the others never: here a pod without its worker keeps the fleet from being updated.
 */
import { lookup as systemLookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { WeightcastError } from '../../errors.js';
import { bare } from '../dynamo/system-url.js';
import type { Member, Membership, MembershipSource } from '../membership.js';
import { type DnsLookup, untilAborted } from './dns.js';

const bySystem: DnsLookup = async (hostname) =>
  (await systemLookup(hostname, { all: true })).map(({ address }) => address);

export function pinnedSource(
  pods: MembershipSource,
  workers: MembershipSource,
  lookup: DnsLookup = bySystem,
): MembershipSource {
  return {
    name: `${pods.name} with ${workers.name}`,
    ...(workers.remedy === undefined ? {} : { remedy: workers.remedy }),
    async poll(signal) {
      const [named, listed] = await Promise.all([pods.poll(signal), workers.poll(signal)]);
      const addresses = new Map(
        await Promise.all(
          listed.members.map(async (member) => [member, await addressesOf(member, lookup, signal)] as const),
        ),
      );
      return pin(named, listed, addresses);
    },
  };
}

/** Each pod's worker, by address; nobody else's. */
export function pin(
  pods: Membership,
  workers: Membership,
  addresses: ReadonlyMap<Member, readonly string[]>,
): Membership {
  const members: Member[] = [];
  const unusable = [...pods.unusable, ...workers.unusable];
  for (const { target } of pods.members) {
    const host = hostOf(target.url);
    const own = workers.members.filter((worker) => addresses.get(worker)?.includes(host));
    const [worker] = own;
    if (worker !== undefined && own.length === 1) {
      members.push({ ...worker, target: { ...worker.target, inferenceUrl: target.url } });
    } else {
      const many = own.map((each) => each.target.url).join(', ');
      const why = own.length === 0 ? 'discovery lists no worker at its address' : `several workers: ${many}`;
      unusable.push({ what: target.url, why, mayServe: true });
    }
  }
  const hosts = pods.members.map(({ target }) => hostOf(target.url));
  for (const worker of workers.members) {
    if (addresses.get(worker)?.some((address) => hosts.includes(address))) continue;
    const why = 'no pod has its address';
    unusable.push({ what: worker.target.url, why, mayServe: true });
  }
  return { members, unusable };
}

/** @throws WeightcastError WC_DISCOVERY_FAILED for a name that does not resolve: whose worker it is can't be said */
async function addressesOf(
  { target }: Member,
  lookup: DnsLookup,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const host = hostOf(target.url);
  if (isIP(host) !== 0) return [host];
  return untilAborted(lookup(host), signal).catch((cause: unknown) => {
    signal.throwIfAborted();
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WeightcastError('WC_DISCOVERY_FAILED', `the worker at ${target.url}: ${why}`, {
      phase: 'discovery',
      cause,
    });
  });
}

function hostOf(url: string): string {
  return bare(new URL(url).hostname);
}
