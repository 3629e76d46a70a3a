"""Lets `dynamo.vllm` be imported where vLLM, torch and what reads pictures are not installed: their names exist and do nothing.

So the handlers, the routes and the rules are Dynamo's own code, over an engine that is not vLLM.
"""

import importlib.abc
import importlib.machinery
import sys
import types

# Beside vLLM: the multimodal code reaches into pictures and video, the argument parser into vLLM's own.
ABSENT = ("vllm", "torch", "PIL", "dynamo.common.multimodal", "dynamo.vllm.multimodal_utils", "dynamo.vllm.args")


class SamplingParams:
    """Dynamo sets what is there already."""

    def __init__(self, **given):
        self.n, self.ignore_eos = 1, False
        self.max_tokens = self.prompt_logprobs = self.logprobs = self.stop_token_ids = None
        self.__dict__.update(given)

    def __post_init__(self):
        pass


class TextRequests:
    """Dynamo's multimodal processor for requests that have only text."""

    enable_multimodal = False

    def __init__(self, **_):
        pass

    def validate_multimodal_request(self, request):
        pass

    async def prepare_input(self, request, *_):
        return types.SimpleNamespace(
            request=request, multi_modal_data=None, mm_processor_kwargs=None, pre_rendered_prompt=None
        )

    def build_tokens_prompt(self, request, *_, **__):
        return {"prompt_token_ids": request["token_ids"]}


PRESENT = {
    "vllm.sampling_params": {"SamplingParams": SamplingParams},
    "vllm.inputs": {"TokensPrompt": dict},
    "dynamo.vllm.multimodal_utils.request_processor": {"VllmMultimodalRequestProcessor": TextRequests},
}


class Empty(type):
    """A class whose attributes are classes like it, and whose instances keep what they are given."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = empty(name)
        setattr(cls, name, made)
        return made


def empty(name):
    return Empty(name, (), {"__init__": lambda self, *_, **given: self.__dict__.update(given)})


class EmptyModule(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (Exception,), {}) if name.endswith("Error") else empty(name)
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if any(f"{name}.".startswith(f"{absent}.") for absent in ABSENT):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return EmptyModule(spec.name)

    def exec_module(self, module):
        module.__version__ = "0.31.0"
        module.__dict__.update(PRESENT.get(module.__name__, {}))


def install():
    sys.meta_path.insert(0, Finder())
