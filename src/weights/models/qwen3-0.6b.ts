/** The tensors of Qwen3-0.6B: a real shape for demos and benchmarks. */
import type { TensorToWrite } from '../write.js';
import { qwen3TensorsOf } from './qwen3.js';

/** 310 tensors in bfloat16, 1,192,099,840 bytes; the head is tied to the embedding, so it is not among them. */
export function qwen3Tensors(): TensorToWrite[] {
  return qwen3TensorsOf({
    layers: 28,
    hidden: 1024,
    heads: 16,
    keyValueHeads: 8,
    head: 128,
    intermediate: 3072,
    vocabulary: 151_936,
    tied: true,
  });
}
