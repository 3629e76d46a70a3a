/** A source that does not lose its engines for one bad answer: prime-rl's elastic pool took a failed lookup for a fleet without engines. */
import { WeightcastError } from '../errors.js';
import type { Member, Membership, MembershipSource } from './membership.js';

export interface Steadiness {
  /** Answers in a row without an engine before it is taken to have left. */
  readonly absences: number;
}

export const DEFAULT_STEADINESS: Steadiness = { absences: 3 };

/** Members stay through failures to look, and until so many looks in a row have not found them. */
export function steady(source: MembershipSource, { absences }: Steadiness): MembershipSource {
  const known = new Map<string, { member: Member; missed: number }>();
  let last: Membership | null = null;
  return {
    ...source,
    async poll(signal) {
      let seen: Membership;
      try {
        seen = await source.poll(signal);
      } catch (error) {
        signal.throwIfAborted();
        const lasting = error instanceof WeightcastError && error.details.lasting === true;
        if (last === null || lasting) throw error;
        return last;
      }
      for (const entry of known.values()) entry.missed += 1;
      for (const member of seen.members) known.set(member.target.id, { member, missed: 0 });
      for (const [id, { missed }] of known) if (missed >= absences) known.delete(id);
      const members = [...known.values()].map(({ member }) => member);
      last = { ...seen, members: members.sort((a, b) => (a.target.id < b.target.id ? -1 : 1)) };
      return last;
    },
  };
}
