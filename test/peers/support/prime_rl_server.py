"""A small prime-rl server, written from contracts/prime-rl.md alone: its routes, and workers that receive over vLLM's own communicator.

Each worker is a process. It joins by vllm.distributed.utils.StatelessProcessGroup and PyNcclCommunicator, as prime-rl's worker does, over the libnccl that
VLLM_NCCL_SO_PATH names, and keeps the SHA-256 of every tensor and the size of every broadcast. Prints {"port": N} when it serves; ends when stdin does.
"""

import argparse
import ctypes
import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import torch
import weightcast_cpu_streams
from vllm.distributed.device_communicators import pynccl
from vllm.distributed.utils import StatelessProcessGroup

# What a machine without a GPU lacks: streams and devices. The communicator's own code stays as it is.
pynccl.torch = weightcast_cpu_streams.TORCH
pynccl.current_stream = weightcast_cpu_streams.Stream


class Worker:
    """NCCLWeightUpdateWorker: section 2 for the join, section 3 for the receive."""

    def __init__(self, index):
        self.index = index
        self.device = torch.device("cpu")
        self.communicator = None
        self.tensors = {}
        self.frames = []

    def init_broadcaster(self, body):
        # Global rank 0 is the first worker; rank 0 of the group is the trainer.
        global_rank = body["rank_offset"] + self.index
        group = StatelessProcessGroup.create(
            host=body["host"],
            port=body["port"],
            rank=global_rank + 1,
            world_size=body["inference_world_size"] + 1,
            store_timeout=body["timeout"],
        )
        self.communicator = pynccl.PyNcclCommunicator(group, device=self.device)
        if self.communicator.disabled:
            raise RuntimeError("the communicator is disabled")

    def broadcast(self, count, dtype):
        buffer = torch.empty(count, dtype=dtype, device=self.device)
        self.communicator.broadcast(buffer, src=0)
        self.frames.append(buffer.numel() * buffer.element_size())
        return buffer

    def integer(self):
        return int(self.broadcast(1, torch.int64).item())

    def update_weights_from_path(self, weight_dir):
        tensors = {}
        self.frames = []
        for _ in range(self.integer()):
            metadata = pickle.loads(bytes(self.broadcast(self.integer(), torch.uint8).numpy()))
            for dtype, members in metadata.items():
                concatenated = self.broadcast(sum(numel for _, _, numel in members), dtype)
                offset = 0
                for name, shape, numel in members:
                    tensor = concatenated[offset : offset + numel].view(shape)
                    offset += numel
                    if name in tensors:
                        raise RuntimeError(f"{name} came twice")
                    data = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() if numel > 0 else b""
                    tensors[name] = {
                        "dtype": str(dtype).removeprefix("torch."),
                        "shape": list(tensor.shape),
                        "sha256": hashlib.sha256(data).hexdigest(),
                    }
        self.tensors = tensors

    def received(self):
        return {"tensors": self.tensors, "frames": self.frames}


def run_worker(index, pipe):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: ends with its server
    worker = Worker(index)
    pipe.send((True, None))
    while True:
        method, arguments = pipe.recv()
        try:
            pipe.send((True, getattr(worker, method)(*arguments)))
        except Exception as error:  # becomes the 500 of collective_rpc
            pipe.send((False, f"{type(error).__name__}: {error}"))


class Engine:
    def __init__(self, size):
        # Forked, so that torch and vLLM are loaded once; no thread runs yet.
        context = multiprocessing.get_context("fork")
        self.pipes = []
        for index in range(size):
            ours, theirs = context.Pipe()
            context.Process(target=run_worker, args=(index, theirs), daemon=True).start()
            self.pipes.append(ours)
        for pipe in self.pipes:
            pipe.recv()
        # Utility calls run one after another on the engine core's loop.
        self.lock = threading.Lock()
        self.paused = False
        self.log = []

    def collective_rpc(self, method, *arguments):
        with self.lock:
            for pipe in self.pipes:
                pipe.send((method, arguments))
            answers = [pipe.recv() for pipe in self.pipes]
        for good, value in answers:
            if not good:
                raise RuntimeError(f"Call to collective_rpc method failed: {value}")
        return [value for _, value in answers]

    def pause(self, _body):
        self.paused = True
        return {"status": "paused"}

    def resume(self, _body):
        self.paused = False
        return {"status": "resumed"}

    def init_broadcaster(self, body):
        self.collective_rpc("init_broadcaster", body)
        return {"status": "ok"}

    def update_weights(self, body):
        self.collective_rpc("update_weights_from_path", body.get("weight_dir"))
        return {"status": "ok"}


POST = ("pause", "resume", "init_broadcaster", "update_weights")
LISTED = ("/health", "/liveness", "/v1/models", "/load_lora_adapter", *(f"/{name}" for name in POST))


def handler_of(engine):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status, body):
            data = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            if self.path == "/health":
                self.answer(200, None)
            elif self.path == "/openapi.json":
                self.answer(200, {"openapi": "3.1.0", "paths": {path: {} for path in LISTED}})
            elif self.path == "/v1/models":
                card = {"id": "peer", "object": "model", "root": "/models/peer", "parent": None}
                self.answer(200, {"object": "list", "data": [card]})
            elif self.path == "/received":
                workers = engine.collective_rpc("received")
                self.answer(200, {"workers": workers, "paused": engine.paused, "log": engine.log})
            else:
                self.answer(404, {"detail": "Not Found"})

        def do_POST(self):
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            name = urlsplit(self.path).path.removeprefix("/")
            engine.log.append([self.path, raw.decode()])
            if name not in POST:
                return self.answer(404, {"detail": "Not Found"})
            try:
                self.answer(200, getattr(engine, name)(json.loads(raw) if raw else None))
            except Exception as error:
                message = {"message": str(error), "type": "InternalServerError", "param": None, "code": 500}
                self.answer(500, {"error": message})

        def log_message(self, *_):
            pass

    return Handler


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--workers", type=int, default=1)
    engine = Engine(options.parse_args().workers)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(engine))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
