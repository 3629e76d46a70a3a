/** Experts that a checkpoint stores one by one and an engine stacks: w13_weight holds gate and up of each, w2_weight the down projections. */
import type { Tensor } from '../tensor.js';
import type { Steps } from '../yielding.js';
import { type FileTensor, isFileTensor } from './slices.js';

const TENSORS_PER_STEP = 512;
const EXPERTS = '.experts.';
/** What follows that. */
const PART = /^([0-9]{1,6})\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight$/;
const SLOT = {
  gate_proj: 'gate',
  w1: 'gate',
  up_proj: 'up',
  w3: 'up',
  down_proj: 'down',
  w2: 'down',
} as const;

export interface ExpertGroup {
  /** The engine's parameter. */
  readonly name: string;
  /** Along which dimension tensor parallelism slices each part. */
  readonly along: 'rows' | 'columns';
  /** The parts of each expert, in numeric order. */
  readonly experts: readonly (readonly FileTensor[])[];
  readonly tensors: readonly Tensor[];
}

interface Parts {
  gate?: FileTensor;
  up?: FileTensor;
  down?: FileTensor;
}

interface Place {
  readonly expert: number;
  readonly slot: keyof Parts;
}

/** The stacked parameters, and the tensors that belong to none. Experts with a part missing form none. */
export function* expertGroups(tensors: readonly Tensor[]): Steps<{
  readonly groups: readonly ExpertGroup[];
  readonly others: readonly Tensor[];
}> {
  const owners = new Map<string, Map<number, Parts>>();
  // Every layer has the same names behind its own: so few are looked at closely.
  const places = new Map<string, Place | null>();
  const others: (Tensor | null)[] = [...tensors];
  const indexOf = new Map<FileTensor, number>();
  for (const [index, tensor] of tensors.entries()) {
    if (index % TENSORS_PER_STEP === 0) yield;
    const { name } = tensor;
    const at = name.lastIndexOf(EXPERTS);
    if (at < 0 || !isFileTensor(tensor)) continue;
    const place = placeOf(name.slice(at + EXPERTS.length), places);
    if (place === null) continue;
    const owner = name.slice(0, at + EXPERTS.length - 1);
    const experts = owners.get(owner) ?? new Map<number, Parts>();
    owners.set(owner, experts);
    const parts: Parts = experts.get(place.expert) ?? {};
    experts.set(place.expert, parts);
    parts[place.slot] = tensor;
    indexOf.set(tensor, index);
  }
  const groups: ExpertGroup[] = [];
  for (const [owner, experts] of owners) {
    yield;
    const ordered = [...experts.entries()].sort((a, b) => a[0] - b[0]).map(([, parts]) => parts);
    const gateUp = ordered.map(({ gate, up }) => [gate, up].filter((part) => part !== undefined));
    const down = ordered.map(({ down }) => [down].filter((part) => part !== undefined));
    if (!gateUp.every(({ length }) => length === 2) || !down.every(({ length }) => length === 1)) continue;
    for (const [name, along, list] of [
      [`${owner}.w13_weight`, 'rows', gateUp],
      [`${owner}.w2_weight`, 'columns', down],
    ] as const) {
      const all = list.flat();
      groups.push({ name, along, experts: list, tensors: all });
      for (const tensor of all) others[indexOf.get(tensor) as number] = null;
    }
  }
  return { groups, others: others.filter((tensor) => tensor !== null) };
}

function placeOf(path: string, known: Map<string, Place | null>): Place | null {
  let place = known.get(path);
  if (place === undefined) {
    const [, expert, part] = PART.exec(path) ?? [];
    place = part === undefined ? null : { expert: Number(expert), slot: SLOT[part as keyof typeof SLOT] };
    known.set(path, place);
  }
  return place;
}
