"""An engine client as dynamo.vllm's handlers use it: pauses, collective calls and tokens that tell which weights made them."""

import asyncio
import os
from types import SimpleNamespace

from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

# Every token that a request gets is the word of the weights that made it: by their digest, or one of the two below.
FIRST_WORD, WORDS = 16, 480
MIXED_WORD, LORA_WORD = FIRST_WORD + WORDS, FIRST_WORD + WORDS + 1
# What must not happen to an engine that takes requests, whatever its worker believes.
UPDATES = ("start_weight_update", "update_weights", "finish_weight_update", "reload_weights")


class Engine(AsyncLLM):
    def __init__(self, ranks, token_seconds):
        self.ranks, self.token_seconds = ranks, token_seconds
        self.rpc = asyncio.Lock()
        self.admits, self.steps = asyncio.Event(), asyncio.Event()
        self.admits.set()
        self.steps.set()
        self.in_flight, self.aborted, self.loras = {}, set(), {}
        self.while_serving = []
        self.stripped = self.dead = False
        self.word = None
        parallel = SimpleNamespace(
            data_parallel_size=1, data_parallel_rank=0, data_parallel_external_lb=False, data_parallel_hybrid_lb=False,
            distributed_executor_backend="mp", world_size=len(ranks.pipes),
        )  # fmt: skip
        self.vllm_config = SimpleNamespace(
            parallel_config=parallel, lora_config=None, kv_events_config=None, additional_config=None,
            cache_config=SimpleNamespace(block_size=16),
        )  # fmt: skip
        self.log_stats = False

    async def check_health(self):
        if self.dead:
            raise EngineDeadError("EngineCore encountered an issue.")

    def shutdown(self):
        pass

    async def pause_generation(self, mode="abort", clear_cache=True):
        self.admits.clear()
        if mode == "keep":
            self.steps.clear()
            return
        if mode == "abort":
            self.aborted.update(self.in_flight)
        while self.in_flight:
            await asyncio.wait(list(self.in_flight.values()))

    async def resume_generation(self):
        self.admits.set()
        self.steps.set()

    async def sleep(self, level=1):
        pass

    async def wake_up(self, tags=None):
        pass

    async def reset_prefix_cache(self, **_):
        return True

    async def abort(self, request_id):
        self.aborted.add(request_id)

    async def add_lora(self, request):
        if not os.path.exists(os.path.join(request.lora_path, "adapter_config.json")):
            raise ValueError(f"Loading lora {request.lora_name} failed: No adapter found for {request.lora_path}")
        self.loras[request.lora_int_id] = request.lora_path
        return True

    async def remove_lora(self, lora_id):
        return self.loras.pop(lora_id, None) is not None

    async def call(self, method, **arguments):
        async with self.rpc:
            return await asyncio.to_thread(self.ranks.everyone, method, **arguments)

    async def collective_rpc(self, method, kwargs):
        if method in UPDATES and self.admits.is_set():
            self.while_serving.append(method)
        # vLLM's layers are stripped from here until the weights are whole again: serving before that kills its engine core.
        if method == "start_weight_update":
            self.stripped = True
        try:
            await self.call(method, **kwargs)
        except RuntimeError as error:
            raise Exception(
                f"Call to collective_rpc method failed: Worker failed with error '{error}', "
                "please check the stack trace above for the root cause"
            ) from None
        if method in ("finish_weight_update", "reload_weights"):
            self.stripped = False
            self.word = None

    async def generate(self, prompt, sampling_params, request_id, lora_request=None, **_):
        await self.admits.wait()
        done = asyncio.get_running_loop().create_future()
        self.in_flight[request_id] = done
        try:
            if self.stripped:
                self.dead = True
            await self.check_health()
            if self.word is None:
                digests = await self.call("digest")
                self.word = FIRST_WORD + digests[0] % WORDS if len(set(digests)) == 1 else MIXED_WORD
            word = self.word if lora_request is None else LORA_WORD
            limit = sampling_params.max_tokens or 4
            tokens = prompt["prompt_token_ids"]
            scores = None if sampling_params.prompt_logprobs is None else [None, *map(score, tokens[1:])]
            for index in range(limit):
                await self.steps.wait()
                await asyncio.sleep(self.token_seconds)
                reason = "abort" if request_id in self.aborted else "length" if index == limit - 1 else None
                choice = SimpleNamespace(
                    index=0, token_ids=[] if reason == "abort" else [word], finish_reason=reason, stop_reason=None,
                    logprobs=None,
                )  # fmt: skip
                yield SimpleNamespace(
                    prompt_token_ids=tokens, prompt_logprobs=scores, num_cached_tokens=0, outputs=[choice]
                )
                if reason is not None:
                    return
        finally:
            del self.in_flight[request_id]
            self.aborted.discard(request_id)
            done.set_result(None)


def score(token):
    """The token beside a likelier one whose key sorts before it in JavaScript and after it as text."""
    return {
        token: SimpleNamespace(logprob=-token / 64, rank=2, decoded_token=None),
        9: SimpleNamespace(logprob=-0.125, rank=1, decoded_token=None),
    }
