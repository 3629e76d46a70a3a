import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const VOCABULARY = 512;

/** Writes the configuration and the tokenizer of a model of 512 words, 'w0' to 'w511': enough for a frontend, without weights. */
export async function writeTinyModel(directory: string): Promise<void> {
  const words = Object.fromEntries(Array.from({ length: VOCABULARY }, (_, index) => [`w${index}`, index]));
  const files = {
    'config.json': {
      architectures: ['Qwen3ForCausalLM'],
      model_type: 'qwen3',
      vocab_size: VOCABULARY,
      max_position_embeddings: 4096,
      eos_token_id: 1,
    },
    'tokenizer.json': {
      version: '1.0',
      added_tokens: [],
      pre_tokenizer: { type: 'Whitespace' },
      model: { type: 'WordLevel', vocab: words, unk_token: 'w0' },
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      unk_token: 'w0',
      eos_token: 'w1',
      pad_token: 'w2',
      chat_template: "{% for message in messages %}{{ message['content'] }} {% endfor %}",
    },
  };
  await mkdir(directory, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(directory, name), JSON.stringify(content));
  }
}
