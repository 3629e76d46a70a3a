import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The shapes of make_model.py's models that an adapter touches. */
const HIDDEN = 64;
const LAYERS = 3;
const RANK = 4;

/** Writes a LoRA adapter as PEFT saves it, for the query projections of make_model.py's models; `scale` is how far it bends them. */
export async function writeAdapter(directory: string, scale: number): Promise<void> {
  await mkdir(directory, { recursive: true });
  const config = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    r: RANK,
    lora_alpha: RANK,
    lora_dropout: 0,
    bias: 'none',
    target_modules: ['q_proj'],
    base_model_name_or_path: null,
  };
  await writeFile(join(directory, 'adapter_config.json'), JSON.stringify(config));
  const header: Record<string, unknown> = {};
  const parts: Float32Array[] = [];
  let offset = 0;
  for (let layer = 0; layer < LAYERS; layer++) {
    // Four heads of 32 make 128 rows.
    for (const [name, shape] of [
      ['lora_A', [RANK, HIDDEN]],
      ['lora_B', [128, RANK]],
    ] as const) {
      const values = new Float32Array(shape[0] * shape[1]).map(
        (_, index) => scale * Math.sin(index * 0.7 + layer),
      );
      header[`base_model.model.model.layers.${layer}.self_attn.q_proj.${name}.weight`] = {
        dtype: 'F32',
        shape,
        data_offsets: [offset, offset + values.byteLength],
      };
      offset += values.byteLength;
      parts.push(values);
    }
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const bytes = parts.map((part) => Buffer.from(part.buffer));
  await writeFile(join(directory, 'adapter_model.safetensors'), Buffer.concat([length, json, ...bytes]));
}
