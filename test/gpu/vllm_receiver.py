"""vLLM's own receive code on CUDA tensors, without the rest of vLLM.

    python3 vllm_receiver.py FOLDER < request.json

FOLDER holds pynccl.py, pynccl_wrapper.py and packed_tensor.py of a vLLM (bench/gpu/pack.sh copies them out of the wheel). What they
import from vLLM is answered here: settings, a logger, the platform, the stream. request.json, one line: {"unique_id" (base64), "rank",
"world_size", "library", "buffer_bytes", "tensors": [[name, dtype, shape], ...]}. Prints "joined", then {name: sha256}.

With WEIGHTCAST_GPU_LANE=emulated the two CUDA notions that this code uses, streams and devices, are answered for the CPU by
test/peers/support/plugin, as in the lane of the real servers.
"""

import base64
import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import sys
import types

import torch

EMULATED = os.environ.get("WEIGHTCAST_GPU_LANE") == "emulated"


class Logger(logging.LoggerAdapter):
    def info_once(self, *arguments, **_):
        self.debug(*arguments)

    warning_once = debug_once = info_once


def module(name, **content):
    made = types.ModuleType(name)
    made.__dict__.update(content)
    sys.modules[name] = made
    return made


def answer_for_vllm(library):
    platform = types.SimpleNamespace(
        is_rocm=lambda: False, is_cuda=lambda: True, is_cpu=lambda: False, fp8_dtype=lambda: torch.float8_e4m3fn
    )
    envs = module(
        "vllm.envs", VLLM_DISABLE_PYNCCL=False, VLLM_NCCL_SO_PATH=library, VLLM_USE_NCCL_SYMM_MEM=False
    )
    module("vllm", envs=envs, __path__=[])
    for package in ("distributed", "distributed.device_communicators", "distributed.weight_transfer", "utils"):
        module(f"vllm.{package}", __path__=[])
    module("vllm.logger", init_logger=lambda name: Logger(logging.getLogger(name), {}))
    module("vllm.platforms", current_platform=platform)
    module("vllm.utils.nccl", find_nccl_library=lambda: library)
    module("vllm.utils.torch_utils", current_stream=lambda: torch.cuda.current_stream())
    module("vllm.distributed.utils", StatelessProcessGroup=type("StatelessProcessGroup", (), {}))


def load(folder, file, name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, file))
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def main():
    request = json.loads(sys.stdin.readline())
    answer_for_vllm(request["library"])
    folder = sys.argv[1]
    load(folder, "pynccl_wrapper.py", "vllm.distributed.device_communicators.pynccl_wrapper")
    pynccl = load(folder, "pynccl.py", "vllm.distributed.device_communicators.pynccl")
    packed = load(folder, "packed_tensor.py", "vllm.distributed.weight_transfer.packed_tensor")
    device = torch.device("cpu" if EMULATED else "cuda:0")
    if EMULATED:
        sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../peers/support/plugin"))
        import weightcast_cpu_streams as streams

        for receiving in (pynccl, packed):
            receiving.torch = streams.TORCH
        pynccl.current_stream = streams.Stream
    group = pynccl.PyNcclCommunicator.from_unique_id_bytes(
        base64.b64decode(request["unique_id"]), request["rank"], request["world_size"], device
    )
    print("joined", flush=True)

    digests = {}

    def keep(tensors):
        if not EMULATED:
            torch.cuda.current_stream().synchronize()
        for name, tensor in tensors:
            raw = tensor.contiguous().view(torch.uint8) if tensor.numel() else tensor
            digests[name] = hashlib.sha256(raw.cpu().numpy().tobytes()).hexdigest()

    described = ((name, (shape, getattr(torch, dtype))) for name, dtype, shape in request["tensors"])
    with contextlib.nullcontext() if EMULATED else torch.cuda.device(device):
        packed.packed_nccl_broadcast_consumer(
            described, group, 0, keep, buffer_size_bytes=request["buffer_bytes"], device=device
        )
    print(json.dumps(digests), flush=True)


main()
