/** One fleet out of engines that are listed and engines that are found: each once, or two ranks would wait for one worker. */
import type { EngineTarget } from '../engines/http.js';
import { WeightcastError } from '../errors.js';
import { engineKey } from '../update/claim/identity.js';
import type { Member } from './membership.js';

export interface Merged {
  /** The listed ones first. One that is also found stays as it is listed, with the identity and the facts that its source adds. */
  readonly members: readonly Member[];
  /** Addresses that lead to an engine which another source has named already; not among the members. */
  readonly twice: readonly string[];
}

export function mergeMembers(listed: readonly EngineTarget[], found: readonly Member[]): Merged {
  const members = new Map<string, Member>(
    listed.map((target) => [engineKey(target.url), { target, identity: null }]),
  );
  const taken = new Set<string>();
  const twice: string[] = [];
  for (const member of found) {
    const key = engineKey(member.target.url);
    const known = members.get(key);
    if (taken.has(key)) twice.push(member.target.url);
    else members.set(key, known === undefined ? member : { ...member, target: filled(known, member) });
    taken.add(key);
  }
  return { members: [...members.values()], twice };
}

/** @throws WeightcastError WC_CONFIG_INVALID for an engine that is found twice */
export function requireOnce({ members, twice: [first] }: Merged): readonly Member[] {
  if (first === undefined) return members;
  throw new WeightcastError('WC_CONFIG_INVALID', `${first} is found twice`, {
    engine: first,
    phase: 'discovery',
    remedy:
      'Let one source name it: leave out the other, or say family=4 where a server has an address of each kind.',
  });
}

/** What the user says goes before what discovery does. */
function filled({ target: listed }: Member, { target: found }: Member): EngineTarget {
  if (listed.backend !== found.backend) return listed;
  const routes = listed.routes ?? found.routes;
  return {
    ...listed,
    workers: listed.workers ?? found.workers,
    inferenceUrl: listed.inferenceUrl ?? found.inferenceUrl,
    parameters: { ...found.parameters, ...listed.parameters },
    ...(routes === undefined ? {} : { routes }),
  };
}
