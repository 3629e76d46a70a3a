/** Who is to be looked at: engines that are listed, and those that are found, as a push finds them. */
import type { EngineTarget } from '../../engines/http.js';
import { WeightcastError } from '../../errors.js';
import { mergeMembers, requireOnce } from '../../fleet/merge.js';
import { openMembership } from '../../update/membership.js';
import type { Settings } from '../../update/settings.js';
import { targetsOf } from '../../update/targets.js';
import { count } from '../format.js';
import { errorReport } from '../outcome.js';
import { type Finding, finding } from './finding.js';

const ABOUT = 'discovery';

export interface LookedUp {
  readonly targets: readonly EngineTarget[];
  readonly findings: readonly Finding[];
}

/** What a discovery fails with is a finding. @throws WeightcastError WC_CONFIG_INVALID */
export async function lookUp(settings: Settings): Promise<LookedUp> {
  const listed = targetsOf(settings);
  const membership = openMembership(settings);
  if (membership === null) return { targets: listed, findings: [] };
  try {
    const members = await membership.members(new AbortController().signal);
    return {
      targets: requireOnce(mergeMembers(listed, members)).map(({ target }) => target),
      findings: [
        finding('ok', ABOUT, `found ${count(members.length, 'engine')}`),
        ...membership.notes.map((note) => finding('warning', ABOUT, note)),
      ],
    };
  } catch (error) {
    if (error instanceof WeightcastError && error.family === 'config') throw error;
    const { message, remedy } = errorReport(error);
    return { targets: listed, findings: [finding('wrong', ABOUT, message, remedy)] };
  } finally {
    await membership.close();
  }
}
