/** Which SHA-256 an engine can report for a parameter, without knowing the model (contracts/real-peers.md: 52 of 52 at TP 2). */
import { moduleOf } from '../order.js';
import type { Tensor } from '../tensor.js';
import { runToEnd, type Steps } from '../yielding.js';
import { doubtsOf } from './doubts.js';
import { type ExpertGroup, expertGroups } from './experts.js';
import { FUSED_GROUPS, type FusedGroup, tiedNames } from './names.js';
import { columns, type FileTensor, isFileTensor, rows, whole } from './slices.js';
import type { Candidate, ProofParameter, ProofPlan, Segment } from './types.js';

const TENSORS_PER_STEP = 256;

/**
 * The candidates for every parameter that an engine may make of these tensors: the tensor; with tensor parallelism its even slices along
 * dimension 0 or 1; fused modules as the rows of their parts, each part sliced; tied embeddings under both names. Pure: nothing is read.
 *
 * @param tpSize tensor-parallel workers of the engine
 * @example
 * ```ts
 * const plan = candidatesFor(checkpoint.tensors, 2);
 * const { job } = toHashJob(plan);
 * ```
 */
export function candidatesFor(tensors: readonly Tensor[], tpSize: number): ProofPlan {
  return runToEnd(candidateSteps(tensors, tpSize));
}

/** The same, to be run in slices. */
export function* candidateSteps(tensors: readonly Tensor[], tpSize: number): Steps<ProofPlan> {
  const candidates: Candidate[] = [];
  const parameters = new Map<string, ProofParameter>();
  const doubts = yield* doubtsOf(tensors, tpSize);
  const names = tensors.map(({ name }) => name);
  const ties = yield* tiedNames(names);

  const add = (
    aliases: readonly string[],
    sources: readonly Tensor[],
    forms: readonly Candidate[],
    doubt: string | null,
  ) => {
    const indices = forms.map((form) => candidates.push(form) - 1);
    for (const name of aliases) {
      parameters.set(name, {
        name,
        tensors: sources.map((source) => source.name),
        candidates: indices,
        doubt,
      });
    }
  };

  const { groups: experts, others } = yield* expertGroups(tensors);
  let since = 0;
  for (const tensor of others) {
    if (++since % TENSORS_PER_STEP === 0) yield;
    const tied = ties.get(tensor.name);
    const aliases = tied === undefined ? [tensor.name] : [tensor.name, tied];
    const forms = isFileTensor(tensor) ? formsOf(tensor, tpSize) : [];
    const noBytes = tensor.range.byteLength === 0 ? 'it has no bytes' : 'its bytes are not in a file';
    add(aliases, [tensor], forms, forms.length === 0 ? noBytes : doubts.about([tensor]));
  }
  for (const { name, group, parts } of yield* fusedParameters(others)) {
    if (++since % TENSORS_PER_STEP === 0) yield;
    if (!parameters.has(name)) add([name], parts, fusedForms(group, parts, tpSize), doubts.about(parts));
  }
  for (const group of experts) {
    const doubt = doubts.about(group.tensors) ?? 'experts: the engine may reorder them for its kernels';
    add([group.name], group.tensors, yield* expertForms(group, tpSize), doubt);
    yield;
  }
  return { tpSize, candidates, parameters, tensors: names };
}

function formsOf(tensor: FileTensor, tpSize: number): Candidate[] {
  const forms: Candidate[] = [form('whole', null, 'the whole tensor', [whole(tensor)])];
  for (const rank of ranks(tpSize)) {
    forms.push(
      ...formOrNone('rows', rank, `rows, slice ${rank + 1} of ${tpSize}`, [rows(tensor, rank, tpSize)]),
      ...formOrNone('columns', rank, `columns, slice ${rank + 1} of ${tpSize}`, [
        columns(tensor, rank, tpSize),
      ]),
    );
  }
  return forms;
}

function fusedForms(group: FusedGroup, parts: readonly FileTensor[], tpSize: number): Candidate[] {
  const names = group.parts.join(', ');
  const forms: Candidate[] = [form('parts', null, `${names}, concatenated`, parts.map(whole))];
  const [first, ...others] = parts as [FileTensor, ...FileTensor[]];
  for (const rank of ranks(tpSize)) {
    const slices = parts.map((part) => rows(part, rank, tpSize));
    forms.push(
      ...formOrNone('rows of parts', rank, `rows of ${names}, slice ${rank + 1} of ${tpSize}`, slices),
    );
    if (!group.replicates) continue;
    for (const sets of divisorsBelow(tpSize)) {
      const set = Math.floor((rank * sets) / tpSize);
      forms.push(
        ...formOrNone(
          `rows of parts, ${sets} sets`,
          rank,
          `rows of ${group.parts[0]}, slice ${rank + 1} of ${tpSize}; of the others, slice ${set + 1} of ${sets}`,
          [rows(first, rank, tpSize), ...others.map((part) => rows(part, set, sets))],
        ),
      );
    }
  }
  return forms;
}

/** Stacked experts: every worker a slice of each, or (expert parallel) a share of the experts. */
function* expertForms({ experts, along }: ExpertGroup, tpSize: number): Steps<Candidate[]> {
  const all = experts.flat();
  const forms: Candidate[] = [form('experts', null, `${experts.length} experts`, all.map(whole))];
  const slice = along === 'rows' ? rows : columns;
  for (const rank of ranks(tpSize)) {
    yield;
    const share = experts.length / tpSize;
    const label = `${experts.length} experts, ${along}, slice ${rank + 1} of ${tpSize}`;
    forms.push(
      ...formOrNone(
        'experts sliced',
        rank,
        label,
        all.map((part) => slice(part, rank, tpSize)),
      ),
    );
    if (!Number.isInteger(share)) continue;
    const own = experts.slice(rank * share, (rank + 1) * share).flat();
    forms.push(
      form('experts shared', rank, `experts ${rank * share} to ${(rank + 1) * share - 1}`, own.map(whole)),
    );
  }
  return forms;
}

interface FusedParameter {
  readonly name: string;
  readonly group: FusedGroup;
  readonly parts: readonly FileTensor[];
}

function* fusedParameters(tensors: readonly Tensor[]): Steps<FusedParameter[]> {
  const byName = new Map(tensors.filter(isFileTensor).map((tensor) => [tensor.name, tensor]));
  const found: FusedParameter[] = [];
  for (const group of FUSED_GROUPS) {
    const ending = `.${group.parts[0]}`;
    yield;
    let since = 0;
    for (const { name } of byName.values()) {
      if (++since % TENSORS_PER_STEP === 0) yield;
      const module = moduleOf(name);
      if (!module.endsWith(ending)) continue;
      const owner = module.slice(0, -ending.length);
      const leaf = name.slice(module.length);
      const parts = group.parts.map((part) => byName.get(`${owner}.${part}${leaf}`));
      if (parts.every((part) => part !== undefined)) {
        found.push({ name: `${owner}.${group.fused}${leaf}`, group, parts });
      }
    }
  }
  return found;
}

function form(
  kind: string,
  rank: number | null,
  description: string,
  segments: readonly Segment[],
): Candidate {
  return { key: rank === null ? kind : `${kind} @${rank}`, rank, description, segments };
}

function formOrNone(
  kind: string,
  rank: number,
  description: string,
  segments: readonly (Segment | null)[],
): Candidate[] {
  return segments.every((segment) => segment !== null) ? [form(kind, rank, description, segments)] : [];
}

/** Ranks that hold a slice: none when there is one worker, which holds everything. */
function ranks(tpSize: number): number[] {
  return tpSize > 1 ? Array.from({ length: tpSize }, (_, rank) => rank) : [];
}

function divisorsBelow(count: number): number[] {
  return Array.from({ length: count - 1 }, (_, i) => i + 1).filter((divisor) => count % divisor === 0);
}
