/** Holds our verdicts against the reference's, file for file. */
import { type Difference, STRICTER } from './differences.js';
import { filesOf } from './files.js';
import { ourVerdict } from './ours.js';
import type { Reference } from './reference.js';

const FILES_PER_BATCH = 2_000;

export interface Disagreement {
  readonly batch: number;
  readonly index: number;
  readonly ours: string;
  readonly reference: string;
  readonly facts: readonly string[];
  readonly base64: string;
}

export interface Comparison {
  readonly files: number;
  readonly accepted: number;
  /** How often each known difference was met. */
  readonly known: ReadonlyMap<Difference, number>;
  readonly unexplained: readonly Disagreement[];
  /** The reference's reasons, by how often it gave them. */
  readonly reasons: ReadonlyMap<string, number>;
}

/** Asks both about `files` files that follow from the seed. */
export async function compare(
  reference: Reference,
  { seed, files }: { readonly seed: number; readonly files: number },
): Promise<Comparison> {
  const known = new Map<Difference, number>();
  const reasons = new Map<string, number>();
  const unexplained: Disagreement[] = [];
  let accepted = 0;
  for (let batch = 0; batch * FILES_PER_BATCH < files; batch += 1) {
    const made = filesOf(seed, batch, Math.min(FILES_PER_BATCH, files - batch * FILES_PER_BATCH));
    const answered = reference.judge(made);
    const ours = made.map(ourVerdict);
    for (const [index, theirs] of (await answered).entries()) {
      const own = ours[index] as string;
      if (theirs.startsWith('+')) accepted += 1;
      else count(reasons, reasonOf(theirs));
      if (own === theirs || (own.startsWith('-') && theirs.startsWith('-'))) continue;
      const file = made[index] as Buffer;
      const facts = theirs.startsWith('+') ? await reference.facts(file) : [];
      const difference = own.startsWith('-') ? explain(own.slice(1), facts) : undefined;
      if (difference !== undefined) count(known, difference);
      else
        unexplained.push({
          batch,
          index,
          ours: own,
          reference: theirs,
          facts,
          base64: file.toString('base64'),
        });
    }
  }
  return { files, accepted, known, unexplained, reasons };
}

function explain(message: string, facts: readonly string[]): Difference | undefined {
  return STRICTER.find((difference) => facts.includes(difference.fact) && difference.message.test(message));
}

/** Without names and numbers. */
function reasonOf(verdict: string): string {
  return verdict
    .slice(1)
    .replace(/at line .*/s, '')
    .replace(/`.*`|".*"/s, '…')
    .replace(/[0-9.e+-]{2,}|[0-9]/g, 'n')
    .slice(0, 90);
}

function count<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
