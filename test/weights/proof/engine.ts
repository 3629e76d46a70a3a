/**
 * A model in memory, and an engine that shards it as vLLM's layers do (column-parallel, row-parallel, fused, vocabulary-parallel), written by
 * element and not by file offset, so that it shares nothing with the code under test.
 */
import { createHash } from 'node:crypto';
import type { Checksums } from '../../../src/engines/admin.js';
import { DTYPES } from '../../../src/weights/dtype.js';
import { candidatesFor, judge, type ProofPlan, toHashJob } from '../../../src/weights/proof.js';
import type { Tensor } from '../../../src/weights/tensor.js';

/** A matrix (or, with columns null, a vector) of bytes: elements of `size` bytes. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number | null;
  readonly dtype: string;
  /** One Buffer for each element, row by row. */
  readonly elements: readonly Buffer[];
}

export type Model = ReadonlyMap<string, Matrix>;

export function matrix(seed: string, rows: number, columns: number | null, dtype = 'BF16'): Matrix {
  const size = (DTYPES.get(dtype)?.bits ?? 0) / 8;
  const elements = Array.from({ length: rows * (columns ?? 1) }, (_, i) =>
    createHash('sha256').update(`${seed}/${i}`).digest().subarray(0, size),
  );
  return { rows, columns, dtype, elements };
}

export const row = ({ columns, elements }: Matrix, i: number) =>
  elements.slice(i * (columns ?? 1), (i + 1) * (columns ?? 1));

export function rowShare(m: Matrix, rank: number, of: number): Buffer[] {
  const share = m.rows / of;
  return Array.from({ length: share }, (_, i) => row(m, rank * share + i)).flat();
}

export function columnShare(m: Matrix, rank: number, of: number): Buffer[] {
  const share = (m.columns ?? 0) / of;
  return Array.from({ length: m.rows }, (_, i) => row(m, i).slice(rank * share, (rank + 1) * share)).flat();
}

export const sha256 = (elements: readonly Buffer[]) =>
  createHash('sha256').update(Buffer.concat(elements)).digest('hex');

/** The model as one file. */
export function asFile(model: Model, path = '/model.safetensors'): { tensors: Tensor[]; bytes: Buffer } {
  let offset = 0;
  const tensors = [...model].map(([name, { rows, columns, dtype, elements }]): Tensor => {
    const byteLength = Buffer.concat(elements).length;
    offset += byteLength;
    return {
      name,
      dtype: DTYPES.get(dtype) as Tensor['dtype'],
      shape: columns === null ? [rows] : [rows, columns],
      range: { kind: 'file', path, offset: offset - byteLength, byteLength },
    };
  });
  return { tensors, bytes: Buffer.concat([...model.values()].flatMap(({ elements }) => elements)) };
}

/** Does the addon's hash job, literally. */
export function digestsOf(plan: ProofPlan, files: Readonly<Record<string, Buffer>>): string[] {
  const { job } = toHashJob(plan);
  let segment = 0;
  return Array.from(job.digestSegments, (count) => {
    const hash = createHash('sha256');
    for (const end = segment + count; segment < end; segment += 1) {
      const file = files[job.files[job.segmentFile[segment] as number] as string] as Buffer;
      for (let block = 0; block < (job.segmentBlocks[segment] as number); block += 1) {
        const from =
          (job.segmentOffset[segment] as number) + block * (job.segmentStrideBytes[segment] as number);
        const to = from + (job.segmentBlockBytes[segment] as number);
        if (to > file.length) throw new Error('a segment beyond the end of the file');
        hash.update(file.subarray(from, to));
      }
    }
    return hash.digest('hex');
  });
}

export interface TinyOptions {
  readonly seed?: string;
  readonly layers?: number;
  readonly vocabulary?: number;
  readonly keyValueRows?: number;
}

/** A small Llama with 8 query heads of one row each, biases on q, k and v, and a tied head. */
export function tinyModel({
  seed = 'a',
  layers = 2,
  vocabulary = 64,
  keyValueRows = 8,
}: TinyOptions = {}): Model {
  const model = new Map<string, Matrix>();
  const add = (name: string, rows: number, columns: number | null) =>
    model.set(name, matrix(`${seed}/${name}`, rows, columns));
  add('model.embed_tokens.weight', vocabulary, 16);
  for (let i = 0; i < layers; i += 1) {
    const at = `model.layers.${i}`;
    add(`${at}.input_layernorm.weight`, 16, null);
    for (const [name, rows] of [
      ['q', 8],
      ['k', keyValueRows],
      ['v', keyValueRows],
    ] as const) {
      add(`${at}.self_attn.${name}_proj.weight`, rows, 16);
      add(`${at}.self_attn.${name}_proj.bias`, rows, null);
    }
    add(`${at}.self_attn.o_proj.weight`, 16, 8);
    add(`${at}.mlp.gate_proj.weight`, 24, 16);
    add(`${at}.mlp.up_proj.weight`, 24, 16);
    add(`${at}.mlp.down_proj.weight`, 16, 24);
  }
  add('model.norm.weight', 16, null);
  return model;
}

/** What worker `rank` of `of` holds of a {@link tinyModel}: parameter → elements. keyValueSets < of: several workers share key and value heads. */
export function workerParameters(
  model: Model,
  rank: number,
  of: number,
  keyValueSets = of,
): Map<string, Buffer[]> {
  const held = new Map<string, Buffer[]>();
  const get = (name: string) => model.get(name) as Matrix;
  const set = Math.floor((rank * keyValueSets) / of);
  held.set('model.embed_tokens.weight', rowShare(get('model.embed_tokens.weight'), rank, of));
  for (let i = 0; model.has(`model.layers.${i}.input_layernorm.weight`); i += 1) {
    const at = `model.layers.${i}`;
    held.set(`${at}.input_layernorm.weight`, [...get(`${at}.input_layernorm.weight`).elements]);
    for (const leaf of ['weight', 'bias']) {
      held.set(`${at}.self_attn.qkv_proj.${leaf}`, [
        ...rowShare(get(`${at}.self_attn.q_proj.${leaf}`), rank, of),
        ...rowShare(get(`${at}.self_attn.k_proj.${leaf}`), set, keyValueSets),
        ...rowShare(get(`${at}.self_attn.v_proj.${leaf}`), set, keyValueSets),
      ]);
    }
    held.set(`${at}.self_attn.o_proj.weight`, columnShare(get(`${at}.self_attn.o_proj.weight`), rank, of));
    held.set(`${at}.mlp.gate_up_proj.weight`, [
      ...rowShare(get(`${at}.mlp.gate_proj.weight`), rank, of),
      ...rowShare(get(`${at}.mlp.up_proj.weight`), rank, of),
    ]);
    held.set(`${at}.mlp.down_proj.weight`, columnShare(get(`${at}.mlp.down_proj.weight`), rank, of));
  }
  held.set('model.norm.weight', [...get('model.norm.weight').elements]);
  return held;
}

/** The report of a weight checker over those workers. */
export function report(workers: readonly ReadonlyMap<string, readonly Buffer[]>[]): Checksums {
  return new Map(
    workers.map((held, rank) => [
      `dp0:pp0:pcp0:tp${rank}`,
      new Map([...held].map(([parameter, elements]) => [parameter, sha256(elements)])),
    ]),
  );
}

export const ranks = (count: number) => Array.from({ length: count }, (_, rank) => rank);

export function judged(model: Model, tpSize: number, reported: Checksums) {
  const { tensors, bytes } = asFile(model);
  const plan = candidatesFor(tensors, tpSize);
  return judge(plan, digestsOf(plan, { '/model.safetensors': bytes }), reported);
}

export const workersOf = (model: Model, tpSize: number, sets = tpSize) =>
  ranks(tpSize).map((rank) => workerParameters(model, rank, tpSize, sets));

/** A report of one worker of an engine without tensor parallelism. */
export const single = (parameters: Record<string, string>): Checksums =>
  new Map([['dp0:pp0:pcp0:tp0', new Map(Object.entries(parameters))]]);
