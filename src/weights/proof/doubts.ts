/** Reasons for which an engine may rightly hold other bytes than the checkpoint's: such a parameter is not provable, not wrong. */
import { moduleOf } from '../order.js';
import type { Tensor } from '../tensor.js';
import type { Steps } from '../yielding.js';
import { FUSED_GROUPS, isVocabulary } from './names.js';

/** vLLM pads the rows of embeddings and heads to a multiple of this. */
const VOCABULARY_GRAIN = 64;
const TENSORS_PER_STEP = 1024;
const FLOATS: ReadonlySet<string> = new Set(['BF16', 'F16', 'F32', 'F64']);
const QUANTISED_LEAF = /scale|zero_?point|qzeros|qweight|g_idx|weight_packed|_amax$/;
const FUSED_NAMES: ReadonlySet<string> = new Set(FUSED_GROUPS.map(({ fused }) => fused));

export interface Doubts {
  /** The first reason that applies to one of these tensors; null when there is none. */
  about(tensors: readonly Tensor[]): string | null;
}

/** Looks over a checkpoint once. */
export function* doubtsOf(tensors: readonly Tensor[], tpSize: number): Steps<Doubts> {
  const quantised = new Set<string>();
  const bytesOf = new Map<string, number>();
  const leaves = new Map<string, boolean>();
  const isQuantisedLeaf = (leaf: string): boolean => {
    const known = leaves.get(leaf) ?? QUANTISED_LEAF.test(leaf);
    leaves.set(leaf, known);
    return known;
  };
  let looked = 0;
  for (const { name, dtype, range } of tensors) {
    if (++looked % TENSORS_PER_STEP === 0) yield;
    if (dtype.bits <= 8 || isQuantisedLeaf(name.slice(name.lastIndexOf('.') + 1))) {
      quantised.add(moduleOf(name));
    }
    if (FLOATS.has(dtype.name)) bytesOf.set(dtype.name, (bytesOf.get(dtype.name) ?? 0) + range.byteLength);
  }
  const main = [...bytesOf].sort((a, b) => b[1] - a[1])[0]?.[0];

  const about = (tensor: Tensor): string | null => {
    const { name, dtype, shape } = tensor;
    const module = moduleOf(name);
    if (quantised.size > 0 && quantised.has(module))
      return 'quantised: the engine repacks it for its kernels';
    if (isVocabulary(name) && (shape[0] ?? 0) % VOCABULARY_GRAIN !== 0) {
      return `its ${shape[0]} rows are padded to a multiple of ${VOCABULARY_GRAIN} by the engine`;
    }
    if (main !== undefined && dtype.name !== main) {
      return `${dtype.name} in a checkpoint that is mostly ${main}: the engine may hold it in another dtype`;
    }
    if (tpSize === 1) return null;
    if (FUSED_NAMES.has(module.slice(module.lastIndexOf('.') + 1))) {
      return 'stored fused: where its parts begin is not known';
    }
    const uneven = shape.slice(0, 2).find((dimension) => dimension % tpSize !== 0);
    return uneven === undefined
      ? null
      : `a dimension of ${uneven} does not divide evenly among ${tpSize} workers`;
  };
  return {
    about: (parts) => {
      for (const part of parts) {
        const doubt = about(part);
        if (doubt !== null) return doubt;
      }
      return null;
    },
  };
}
