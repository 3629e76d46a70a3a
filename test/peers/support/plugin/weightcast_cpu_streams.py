"""Lets a real vLLM receive weights by NCCL in host memory, where there is no GPU.

vLLM's receive code is not touched: it runs as it is, over whatever libnccl VLLM_NCCL_SO_PATH names. What a machine without a
GPU lacks is CUDA's streams and devices, so the modules of that code get a `torch` of their own, which is torch with those
answered for the CPU: a stream is number 0 and always idle, the current device is the CPU. Nobody else's torch changes.
"""

import contextlib
import importlib
import types

import torch

CPU = torch.device("cpu")


class Stream:
    """The default stream; work on it is done when the call returns."""

    cuda_stream = 0
    device = CPU

    def __init__(self, *args, **kwargs):
        pass

    def synchronize(self):
        pass

    def wait_stream(self, stream):
        pass


class View(types.ModuleType):
    """A module with some names answered otherwise."""

    def __init__(self, module, **names):
        super().__init__(module.__name__)
        self.__dict__.update(names)
        self.__dict__["_module"] = module

    def __getattr__(self, name):
        return getattr(self._module, name)


def nowhere(*args, **kwargs):
    return contextlib.nullcontext()


def nothing(*args, **kwargs):
    return None


def empty(*args, device=None, **kwargs):
    """Up to vLLM 0.24 the receive code says device="cuda"."""
    on_cuda = device is not None and torch.device(device).type == "cuda"
    return torch.empty(*args, device=CPU if on_cuda else device, **kwargs)


TORCH = View(
    torch,
    empty=empty,
    cuda=View(
        torch.cuda,
        Stream=Stream,
        current_stream=Stream,
        stream=nowhere,
        device=nowhere,
        current_device=lambda: CPU,
        synchronize=nothing,
    ),
    accelerator=View(
        torch.accelerator,
        current_device_index=lambda: CPU,
        device_index=nowhere,
        synchronize=nothing,
    ),
)

# Those that a version has; the others are of other versions.
RECEIVE_MODULES = (
    "vllm.distributed.weight_transfer.base",
    "vllm.distributed.weight_transfer.nccl_common",
    "vllm.distributed.weight_transfer.nccl_engine",
    "vllm.distributed.weight_transfer.sparse_nccl_engine",
    "vllm.distributed.weight_transfer.packed_tensor",
    "vllm.distributed.device_communicators.pynccl",
)


def answer_receive_code():
    for name in RECEIVE_MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            continue
        if hasattr(module, "torch"):
            module.torch = TORCH
        if hasattr(module, "current_stream"):
            module.current_stream = Stream


def give_workers_a_device():
    """Up to vLLM 0.22 a CPU worker leaves `device` unset, and receives `with torch.device(self.device)`."""
    from vllm.v1.worker.worker_base import WorkerBase

    init = WorkerBase.__init__

    def init_with_device(self, *args, **kwargs):
        init(self, *args, **kwargs)
        if self.device is None:
            self.device = CPU

    WorkerBase.__init__ = init_with_device


def register():
    answer_receive_code()
    give_workers_a_device()
    if not torch.accelerator.is_available():
        torch.accelerator.synchronize = nothing  # as vLLM's CPU runner does itself from 0.22 on

    # The CPU runner repacks linear weights for oneDNN and keeps an empty parameter; the weight checker would report the SHA-256
    # of nothing for it. Without oneDNN the parameters stay as they were loaded.
    import vllm._custom_ops

    vllm._custom_ops._supports_onednn = False
