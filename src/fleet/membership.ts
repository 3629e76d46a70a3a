/** Who belongs to a fleet, as somebody else knows it: DNS, or a frontend of Dynamo. */
import type { EngineTarget } from '../engines/http.js';

/** An engine that a source names. */
export interface Member {
  readonly target: EngineTarget;
  /** Another value under the same URL is another process: Dynamo's namespace/component/instance. null where the source can't tell. */
  readonly identity: string | null;
}

/** Something that a source names and that can't be used. */
export interface Unusable {
  readonly what: string;
  readonly why: string;
  /** It may serve requests and can't be updated: an update of the others would leave two versions in service. */
  readonly mayServe: boolean;
}

export interface Membership {
  /** In an order that depends on who they are, never on the order of the answer. */
  readonly members: readonly Member[];
  readonly unusable: readonly Unusable[];
}

export interface MembershipSource {
  /** 'dynamo http://10.0.0.1:8001', 'dns engines.svc:8000' */
  readonly name: string;
  /** What to do where it names nobody. */
  readonly remedy?: string;
  /**
   * One look.
   *
   * @throws WeightcastError when nothing could be seen, which says nothing about the members; `details.lasting` is true where waiting can't help
   */
  poll(signal: AbortSignal): Promise<Membership>;
}

/** Two memberships with the same text are the same engines with the same properties. */
export function fingerprint({ members, unusable }: Membership): string {
  const engines = members.map(({ target: { url, backend, workers, inferenceUrl, routes }, identity }) => ({
    ...{ url, backend, workers, inferenceUrl, routes, identity },
  }));
  return JSON.stringify([engines, unusable.filter(({ mayServe }) => mayServe).map(({ what }) => what)]);
}

/** GPU workers in all; engines that don't say count as one. */
export function worldSizeOf(members: readonly Member[]): number {
  return members.reduce((sum, { target }) => sum + (target.workers ?? 1), 0);
}
