/** Where results are kept: a Markdown file for people and a JSON file with the same. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Figure } from '../case.js';
import type { Machine } from './machine.js';
import { markdownTable } from './table.js';

export interface CaseResult {
  readonly name: string;
  readonly about: string;
  readonly seconds: number;
  readonly figures: readonly Figure[];
  /** Why there are no figures. */
  readonly failure: string | null;
}

export interface Results {
  readonly date: string;
  readonly quick: boolean;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  /** Load averages over a minute, as the run began and ended. */
  readonly load: { readonly before: number; readonly after: number };
  readonly busy: string | null;
  readonly cases: readonly CaseResult[];
}

export function toMarkdown(results: Results): string {
  const { machine } = results;
  return [
    `# ${results.date}, ${machine.cpu}, ${machine.cores} cores`,
    '',
    `${machine.memoryGiB} GiB of memory, Linux ${machine.kernel}. ${results.quick ? 'A quick run: small sizes, few repeats. ' : ''}Load average ${results.load.before} before, ${results.load.after} after.`,
    ...(results.busy === null ? [] : ['', `**${results.busy}**`]),
    '',
    Object.entries(results.versions)
      .map(([of, version]) => `${of} ${version}`)
      .join(' · '),
    ...results.cases.flatMap((result) => [
      '',
      `## ${result.name} (${result.seconds.toFixed(0)} s)`,
      '',
      result.about,
      '',
      result.failure === null ? markdownTable(result.figures) : `Failed: ${result.failure}`,
    ]),
    '',
  ].join('\n');
}

const slug = (text: string): string =>
  text
    .toLowerCase()
    .replace(/\((r|tm)\)/g, '')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');

/** Writes both files and says their paths. */
export async function writeResults(folder: string, results: Results): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const base = join(folder, `${results.date.slice(0, 10)}-${slug(results.machine.cpu)}`);
  await writeFile(`${base}.md`, toMarkdown(results));
  await writeFile(`${base}.json`, `${JSON.stringify(results, null, 2)}\n`);
  return [`${base}.md`, `${base}.json`];
}
