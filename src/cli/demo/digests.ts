/** Holds what the workers have in memory beside what lies in the checkpoint, parameter by parameter. */
import { native } from '../../native.js';
import { openCheckpoint } from '../../weights/checkpoint.js';
import { type Candidate, candidatesFor, toHashJob } from '../../weights/proof.js';

export interface DigestRow {
  readonly worker: number;
  readonly parameter: string;
  /** What the bytes are: 'the whole tensor', 'rows 1 of 2 of …' */
  readonly form: string;
  /** SHA-256, hex: of the bytes in the checkpoint, and as the worker reports its memory. */
  readonly ours: string;
  readonly theirs: string;
}

/**
 * Digests of those parameters, for every worker of one engine. Of several forms in which a worker may hold a parameter the one that
 * fits is shown; when none does, the first.
 */
export async function compareDigests(
  checkpoint: string,
  workers: readonly ReadonlyMap<string, string>[],
  parameters: readonly string[],
): Promise<DigestRow[]> {
  const { tensors } = await openCheckpoint(checkpoint);
  const plan = candidatesFor(tensors, workers.length);
  const forms = parameters.map((parameter) =>
    (plan.parameters.get(parameter)?.candidates ?? []).flatMap((index) => plan.candidates[index] ?? []),
  );
  const ours = await sha256(forms.flat());
  return parameters.flatMap((parameter, at) =>
    workers.flatMap((reported, worker) => {
      const theirs = reported.get(parameter) ?? 'not reported';
      const possible = (forms[at] ?? []).filter(({ rank }) => rank === null || rank === worker);
      const form = possible.find((candidate) => ours.get(candidate) === theirs) ?? possible[0];
      if (form === undefined) return [];
      return [{ worker, parameter, form: form.description, ours: ours.get(form) ?? '', theirs }];
    }),
  );
}

async function sha256(candidates: readonly Candidate[]): Promise<ReadonlyMap<Candidate, string>> {
  const { job } = toHashJob({ candidates });
  const bytes = Buffer.from(await native().sha256(job, null).result);
  return new Map(
    candidates.map((candidate, index) => [candidate, bytes.toString('hex', 32 * index, 32 * index + 32)]),
  );
}
