/** Where a scenario is struck: learned from a run that is only counted. */
import { Children } from './child.js';
import { type ErrorName, type Fault, KINDS, type Kind, NO_FAULT } from './control.js';
import { type Scenario, withDirectory } from './scenario.js';

const ERRORS: readonly ErrorName[] = ['ENOSPC', 'EIO', 'EDQUOT'];
/** What a full or broken disk refuses. Removing is not among it: what can't be removed is left, and the next publisher sweeps it. */
const FALLIBLE: readonly Kind[] = [
  'open',
  'write',
  'fallocate',
  'ftruncate',
  'fsync',
  'rename',
  'link',
  'mkdir',
];

export async function pointsOf(
  scenario: Scenario,
  { root, library, sample }: { readonly root: string; readonly library: string; readonly sample: number },
): Promise<Fault[]> {
  await using children = new Children(library, root);
  const count = (kinds: readonly Kind[]) =>
    withDirectory(root, scenario.template, async (directory) => {
      const fault = { ...NO_FAULT, kinds };
      const { calls, error } = await children.run(directory, fault, scenario.task(directory));
      if (error !== null) throw new Error(`undisturbed, ${error.message}`);
      return calls.length;
    });
  const all = await count(KINDS);
  const writes = await count(['write']);
  const fallible = await count(FALLIBLE);
  const of = (total: number, fault: Omit<Fault, 'at'>) =>
    sampled(total, sample).map((at): Fault => ({ ...fault, at }));
  return [
    ...of(all, { act: 'kill before', error: 'EIO', kinds: KINDS }),
    ...of(all, { act: 'kill after', error: 'EIO', kinds: KINDS }),
    ...of(writes, { act: 'kill halfway', error: 'EIO', kinds: ['write'] }),
    ...of(writes, { act: 'short', error: 'EIO', kinds: ['write'] }),
    ...ERRORS.flatMap((error) => of(fallible, { act: 'fail', error, kinds: FALLIBLE })),
  ];
}

/** From 1 to total, all or some that are spread over it, other ones each time. */
function sampled(total: number, sample: number): number[] {
  const step = Math.max(1, total / sample);
  const points: number[] = [];
  for (let from = step * Math.random(); from < total; from += step) points.push(1 + Math.floor(from));
  return step === 1 ? Array.from({ length: total }, (_, index) => index + 1) : points;
}
