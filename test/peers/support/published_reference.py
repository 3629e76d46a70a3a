"""Opens a published version as anybody would: python published_reference.py PROMPTS DIRECTORY...

Prints a list with, for each, {"formats", "tensors": {name: {dtype, shape, sha256}}, "total": the index's total_size, "logprobs": as make_model.py computes them}.
"""

import hashlib
import json
import os
import sys

import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM

transformers.logging.set_verbosity_error()


def opened_by_safetensors(directory):
    formats, tensors = [], {}
    for file in sorted(os.listdir(directory)):
        if not file.endswith(".safetensors"):
            continue
        with safe_open(os.path.join(directory, file), framework="pt") as opened:
            formats.append(opened.metadata()["format"])
            for name in opened.keys():
                tensor = opened.get_tensor(name)
                data = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
                dtype = str(tensor.dtype).removeprefix("torch.")
                digest = hashlib.sha256(data).hexdigest()
                tensors[name] = {"dtype": dtype, "shape": list(tensor.shape), "sha256": digest}
    return formats, tensors


def total_size(directory):
    index = os.path.join(directory, "model.safetensors.index.json")
    if not os.path.exists(index):
        return None
    with open(index) as stream:
        return json.load(stream)["metadata"]["total_size"]


def logprobs(directory, prompts):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    scores = []
    for prompt in prompts:
        with torch.no_grad():
            table = model(torch.tensor([prompt])).logits.float().log_softmax(-1)[0]
        scores.append([round(table[i, token].item(), 4) for i, token in enumerate(prompt[1:])])
    return scores


def main(prompts, directories):
    found = []
    for directory in directories:
        formats, tensors = opened_by_safetensors(directory)
        facts = {"formats": formats, "tensors": tensors, "total": total_size(directory)}
        found.append({**facts, "logprobs": logprobs(directory, prompts)})
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
