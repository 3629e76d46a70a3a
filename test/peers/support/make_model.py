"""Writes tiny dense models, as Hugging Face saves them, and what is true of each: digests and log-probabilities.

    python make_model.py ROOT

makes ROOT/<name>/ for each of MODELS below and ROOT/truth.json:
    {"prompts": [[token, …], …],
     "models": {name: {"tensors": {tensor: {"dtype", "shape", "sha256"}},
                       "served": {workers: {"dp0:pp0:pcp0:tp0:" + parameter: sha256}},
                       "logprobs": [[…], …]}}}
`sha256` is that of the tensor's bytes as the safetensors library reads them. `served` is what the weight checker of a vLLM with
that many tensor-parallel workers must say of a model loaded from these files: fused parameters joined, each worker its slice.
`logprobs` are those that `transformers` computes in float32 for each prompt token after the first.
"""

import hashlib
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from safetensors import safe_open
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, Qwen3Config

VOCABULARY = 512
# name: (seed, tied embeddings, largest shard). Sharded ones have an index and several files.
MODELS = {
    "a": (1, False, "150KB"),
    "b": (2, False, "150KB"),
    "c": (3, False, "1GB"),
    "tied-a": (4, True, "150KB"),
    "tied-b": (5, True, "1GB"),
}
PROMPTS = [[7, 300, 12, 44, 501, 3, 90, 256, 17, 5, 411, 60], [1, 2, 3, 500, 499, 498, 77, 8]]


def save_tokenizer(directory):
    words = {f"w{i}": i for i in range(VOCABULARY)}
    raw = Tokenizer(models.WordLevel(words, unk_token="w0"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.save(os.path.join(directory, "tokenizer.json"))
    with open(os.path.join(directory, "tokenizer_config.json"), "w") as file:  # a class that every transformers has
        tokens = {"unk_token": "w0", "eos_token": "w1", "pad_token": "w2"}
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", **tokens}, file)


def build(seed, tied):
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        eos_token_id=1,
        pad_token_id=2,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)  # all ones in every model would prove nothing
    return model


def load(directory):
    tensors = {}
    for file in sorted(os.listdir(directory)):
        if file.endswith(".safetensors"):
            with safe_open(os.path.join(directory, file), framework="pt") as shard:
                tensors.update((name, shard.get_tensor(name)) for name in shard.keys())
    return tensors


def sha256(tensor):
    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()).hexdigest()


def describe(tensors):
    return {
        name: {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "sha256": sha256(tensor),
        }
        for name, tensor in tensors.items()
    }


# Parameter that vLLM fuses: the checkpoint tensors that it joins, in order.
FUSED = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
}


def served(tensors, workers):
    """What each of `workers` tensor-parallel workers holds: its share of the rows, of the columns for the second matrix of a pair."""

    def share(name, rank):
        tensor = tensors[name]
        if tensor.dim() < 2:
            return tensor
        second = name.endswith(("o_proj.weight", "down_proj.weight"))
        return tensor.chunk(workers, dim=1 if second else 0)[rank]

    parts = {part: (fused, list_) for fused, list_ in FUSED.items() for part in list_}
    found = {}
    for rank in range(workers):
        for name in tensors:
            part = next((part for part in parts if f".{part}." in name), None)
            if part is None:
                parameter, names = name, [name]
            else:
                fused, list_ = parts[part]
                parameter, names = name.replace(part, fused), [name.replace(part, other) for other in list_]
            digest = sha256(torch.cat([share(one, rank) for one in names]))
            found[f"dp0:pp0:pcp0:tp{rank}:{parameter}"] = digest
    return found


def logprobs(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    scores = []
    for prompt in PROMPTS:
        tokens = torch.tensor([prompt])
        with torch.no_grad():
            table = model(tokens).logits.float().log_softmax(-1)[0]
        scores.append([round(table[i, token].item(), 4) for i, token in enumerate(prompt[1:])])
    return scores


def main(root):
    transformers.logging.set_verbosity_error()
    truth = {"prompts": PROMPTS, "models": {}}
    for name, (seed, tied, shard) in MODELS.items():
        directory = os.path.join(root, name)
        build(seed, tied).save_pretrained(directory, max_shard_size=shard)
        save_tokenizer(directory)
        tensors = load(directory)
        truth["models"][name] = {
            "tensors": describe(tensors),
            "served": {workers: served(tensors, workers) for workers in (1, 2)},
            "logprobs": logprobs(directory),
        }
    with open(os.path.join(root, "truth.json"), "w") as file:
        json.dump(truth, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1])
