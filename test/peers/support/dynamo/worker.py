"""A Dynamo worker without a GPU: Dynamo's real runtime, its real `dynamo.vllm` handlers and routes, over an engine of ours.

    python worker.py --model DIR --model-name tiny --workers 2 --library PATH/libnccl.so.2

DYN_* variables say where it listens and how it is found. POST /engine/test/received on its system port tells what each rank
holds; test/hold makes every collective call wait, as behind a receive whose sender is gone, until test/let-go.
"""

import argparse
import asyncio
import os
from types import SimpleNamespace


def config_of(options, namespace):
    from dynamo.vllm.constants import DisaggregationMode

    engine = SimpleNamespace(
        model=options.model, load_format="auto", trust_remote_code=False, enable_lora=options.lora, max_loras=4,
        enable_prefix_caching=False, kv_events_config=None,
    )  # fmt: skip
    return SimpleNamespace(
        namespace=namespace, component="backend", endpoint="generate", model=options.model, model_source_path=options.model,
        served_model_name=options.model_name, served_model_aliases=None, engine_args=engine, enable_rl=True,
        custom_encoder_class=None, disaggregation_mode=DisaggregationMode.AGGREGATED, route_to_encoder=False,
        dyn_tool_call_parser=None, dyn_reasoning_parser=None, use_kv_events=False,
    )  # fmt: skip


async def main(options, ranks):
    from dynamo.llm import ModelInput, ModelType, WorkerType, register_model
    from dynamo.runtime import DistributedRuntime
    from dynamo.vllm.handlers import DecodeWorkerHandler
    from dynamo.vllm.worker_factory import WorkerFactory
    from engine import Engine

    namespace = os.environ["DYN_NAMESPACE"]
    runtime = DistributedRuntime(
        asyncio.get_running_loop(), os.environ["DYN_DISCOVERY_BACKEND"], os.environ["DYN_REQUEST_PLANE"]
    )
    engine = Engine(ranks, options.token_ms / 1000)
    generate = runtime.endpoint(f"{namespace}.backend.generate")
    handler = DecodeWorkerHandler(
        runtime, config_of(options, namespace), engine, {}, model_max_len=512, generate_endpoint=generate
    )
    WorkerFactory.register_engine_routes(None, runtime, generate, handler, lora_enabled=options.lora)

    async def received(_):
        return {
            "ranks": await engine.call("report"), "loras": list(engine.loras.values()), "while_serving": engine.while_serving
        }  # fmt: skip

    async def hold(_):
        await engine.rpc.acquire()
        return {}

    async def let_go(_):
        engine.rpc.release()
        return {}

    runtime.register_engine_route("test/received", received)
    runtime.register_engine_route("test/hold", hold)
    runtime.register_engine_route("test/let-go", let_go)
    await register_model(
        ModelInput.Tokens, ModelType.Chat | ModelType.Completions, generate, options.model, options.model_name,
        worker_type=WorkerType.Aggregated,
    )  # fmt: skip
    served = {"rl": handler.rl_dispatch, "clear_kv_blocks": handler.clear_kv_blocks}
    if options.lora:
        served |= {name: getattr(handler, name) for name in ("load_lora", "unload_lora", "list_loras")}
    # All before the first is served: over NATS the runtime hangs where one is made while another starts to serve.
    endpoints = {name: runtime.endpoint(f"{namespace}.backend.{name}") for name in served}
    # The payload of a health check makes GET /health follow this endpoint.
    tasks = [generate.serve_endpoint(handler.generate, health_check_payload={"token_ids": [1]})]
    tasks += [endpoints[name].serve_endpoint(serve) for name, serve in served.items()]
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--model-name", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--library", required=True)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--token-ms", type=float, default=1)
    given = parser.parse_args()

    import vllm_stand_in
    from ranks import Ranks

    made = Ranks(given.library, given.workers)
    vllm_stand_in.install()
    asyncio.run(main(given, made))
