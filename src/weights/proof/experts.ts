/** Experts that a checkpoint stores one by one and an engine stacks: w13_weight holds gate and up of each, w2_weight the down projections. */
import type { Tensor } from '../tensor.js';
import { type FileTensor, isFileTensor } from './slices.js';

const EXPERT = /^(.*\.experts)\.([0-9]{1,6})\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight$/;
const PLACE: Readonly<Record<string, 'gate' | 'up' | 'down'>> = {
  gate_proj: 'gate',
  w1: 'gate',
  up_proj: 'up',
  w3: 'up',
  down_proj: 'down',
  w2: 'down',
};

export interface ExpertGroup {
  /** The engine's parameter. */
  readonly name: string;
  /** Along which dimension tensor parallelism slices each part. */
  readonly along: 'rows' | 'columns';
  /** The parts of each expert, in numeric order. */
  readonly experts: readonly (readonly FileTensor[])[];
  readonly tensors: readonly Tensor[];
}

/** The stacked parameters, and the names of all tensors that belong to one. Experts with a part missing form none. */
export function expertGroups(tensors: readonly Tensor[]): {
  readonly groups: readonly ExpertGroup[];
  readonly members: ReadonlySet<string>;
} {
  const owners = new Map<string, Map<number, Partial<Record<'gate' | 'up' | 'down', FileTensor>>>>();
  for (const tensor of tensors) {
    const [, owner, number, part] = EXPERT.exec(tensor.name) ?? [];
    if (owner === undefined || part === undefined || !isFileTensor(tensor)) continue;
    const experts = owners.get(owner) ?? new Map();
    owners.set(owner, experts);
    experts.set(Number(number), { ...experts.get(Number(number)), [PLACE[part] as string]: tensor });
  }
  const groups: ExpertGroup[] = [];
  const members = new Set<string>();
  for (const [owner, experts] of owners) {
    const ordered = [...experts.entries()].sort((a, b) => a[0] - b[0]).map(([, parts]) => parts);
    const gateUp = ordered.map(({ gate, up }) => [gate, up].filter((part) => part !== undefined));
    const down = ordered.map(({ down }) => [down].filter((part) => part !== undefined));
    if (!gateUp.every(({ length }) => length === 2) || !down.every(({ length }) => length === 1)) continue;
    for (const [name, along, list] of [
      [`${owner}.w13_weight`, 'rows', gateUp],
      [`${owner}.w2_weight`, 'columns', down],
    ] as const) {
      groups.push({ name, along, experts: list, tensors: list.flat() });
      for (const { name } of list.flat()) members.add(name);
    }
  }
  return { groups, members };
}
