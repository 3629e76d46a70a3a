"""A receiver that knows NCCL's C API and a vLLM server's admin routes, and nothing of weightcast. Standard library only.

    python3 receiver.py --version 0.32.0 --workers 2 --library PATH/libnccl.so.2

serves HTTP on a free port of 127.0.0.1 and prints {"port": N} on stdout. Its workers are processes: each loads libnccl with
ctypes, joins as a rank, and receives into plain host memory on stream 0. Versions from 0.32 join by nccl_unique_id_b64, older
ones by the TCPStore that init_info names. GET /received gives, for each worker, every tensor that arrived:
{"dp0:pp0:pcp0:tp0": {name: {"dtype", "shape", "sha256"}}}. It ends when its standard input ends.
"""

import argparse
import base64
import ctypes
import hashlib
import io
import json
import math
import multiprocessing
import os
import pickle
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# torch name: (bytes an element, ncclDataType_t, or None where vLLM's own wrapper knows none)
DTYPES = {
    "int8": (1, 0), "uint8": (1, 1), "int32": (4, 2), "int64": (8, 4), "float16": (2, 6), "float32": (4, 7),
    "float64": (8, 8), "bfloat16": (2, 9), "float8_e4m3fn": (1, 10),
    "float8_e5m2": (1, None), "bool": (1, None), "int16": (2, None),
}  # fmt: skip
UINT8, FLOAT32, SUM = 1, 7, 0


class UniqueId(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_byte * 128)]


class Nccl:
    def __init__(self, path):
        library = ctypes.CDLL(path)
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        signatures = {
            "ncclCommInitRank": [ctypes.POINTER(pointer), number, UniqueId, number],
            "ncclAllReduce": [pointer, pointer, size, number, number, pointer, pointer],
            "ncclBroadcast": [pointer, pointer, size, number, number, pointer, pointer],
            "ncclCommAbort": [pointer],
        }
        for name, arguments in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = number, arguments
        library.ncclGetErrorString.restype = ctypes.c_char_p
        self.library = library

    def call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code != 0:
            raise RuntimeError(f"{name}: {self.library.ncclGetErrorString(code).decode()}")


class IdUnpickler(pickle.Unpickler):
    """vLLM pickles a ctypes struct of 128 bytes; nothing but that struct is built."""

    def find_class(self, module, name):
        if (module, name) == ("_ctypes", "_unpickle"):
            return lambda kind, state: state[1]
        if name == "ncclUniqueId":
            return UniqueId
        raise pickle.UnpicklingError(f"{module}.{name}")


def id_from_store(host, port):
    """What a torch client of a StatelessProcessGroup sends, and the value that it gets."""

    def text(key):
        return struct.pack("<Q", len(key)) + key

    key = b"/broadcast_from/0/0"
    deadline = time.monotonic() + 60
    while True:
        try:
            store = socket.create_connection((host, port), timeout=60)
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    with store, store.makefile("rb") as replies:
        nonce = struct.pack("<I", os.getpid() & 0xFFFFFFFF)
        store.sendall(b"\x00" + struct.pack("<I", 0x3C85F7CE) + b"\x0d" + nonce)
        assert replies.read(4) == nonce
        store.sendall(b"\x04" + text(b"init/") + struct.pack("<q", 1))
        replies.read(8)
        store.sendall(b"\x06" + struct.pack("<Q", 1) + text(key))
        assert replies.read(1) == b"\x00"
        store.sendall(b"\x03" + text(key))
        (length,) = struct.unpack("<Q", replies.read(8))
        value = replies.read(length)

    return bytes(IdUnpickler(io.BytesIO(value)).load())


class Worker:
    """One rank."""

    def __init__(self, library, index):
        self.nccl, self.index, self.comm = Nccl(library), index, None
        self.received = {}

    def init(self, info):
        encoded = info.get("nccl_unique_id_b64")
        raw = base64.b64decode(encoded) if encoded else id_from_store(info["master_address"], info["master_port"])
        unique = UniqueId.from_buffer_copy(raw)
        comm = ctypes.c_void_p()
        rank = info["rank_offset"] + self.index
        self.nccl.call("ncclCommInitRank", ctypes.byref(comm), info["world_size"], unique, rank)
        self.comm = comm
        one, sum_ = ctypes.c_float(0), ctypes.c_float(-1)
        self.nccl.call(
            "ncclAllReduce", ctypes.addressof(one), ctypes.addressof(sum_), 1, FLOAT32, SUM, comm, None
        )
        assert sum_.value == 0, sum_.value

    def broadcast(self, count, dtype, size):
        buffer = (ctypes.c_ubyte * max(count * size, 1))()
        self.nccl.call("ncclBroadcast", None, ctypes.addressof(buffer), count, dtype, 0, self.comm, None)
        return memoryview(buffer)[: count * size]

    def keep(self, name, dtype, shape, data):
        digest = hashlib.sha256(data).hexdigest()
        self.received[name] = {"dtype": dtype, "shape": shape, "sha256": digest}

    def update(self, info, packing):
        listed = list(zip(info["names"], info["dtype_names"], info["shapes"], strict=True))
        if not packing.get("packed"):
            for name, dtype, shape in listed:
                size, code = DTYPES[dtype]
                if code is None:
                    raise ValueError(f"Unsupported dtype: {dtype}")
                self.keep(name, dtype, shape, self.broadcast(math.prod(shape), code, size))
            return
        chunk, total = [], 0
        for position, (name, dtype, shape) in enumerate(listed):
            length = math.prod(shape) * DTYPES[dtype][0]
            if total % DTYPES[dtype][0] != 0:
                raise RuntimeError("self.storage_offset() must be divisible")
            chunk.append((name, dtype, shape, total, length))
            total += length
            if total > packing["packed_buffer_size_bytes"] or position == len(listed) - 1:
                data = self.broadcast(total, UINT8, 1)
                for name_, dtype_, shape_, offset, length_ in chunk:
                    self.keep(name_, dtype_, shape_, data[offset : offset + length_])
                chunk, total = [], 0

    def report(self):
        return self.received


def work(library, index, pipe):
    worker = Worker(library, index)
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(worker, method)(*arguments)))
        except Exception as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))


class Engine:
    def __init__(self, version, workers, library):
        self.version, self.lock = version, threading.Lock()
        self.packed_in_init = tuple(map(int, version.split("."))) >= (0, 28)
        self.paused = self.open = False
        self.packing, self.weight_version, self.started = {}, "default", time.time()
        spawn = multiprocessing.get_context("spawn")
        self.pipes = []
        for index in range(workers):
            mine, theirs = spawn.Pipe()
            spawn.Process(target=work, args=(library, index, theirs), daemon=True).start()
            self.pipes.append(mine)

    def everyone(self, method, *arguments):
        with self.lock:
            for pipe in self.pipes:
                pipe.send((method, arguments))
            answers = [pipe.recv() for pipe in self.pipes]
        for good, value in answers:
            if not good:
                raise RuntimeError(value)
        return [value for _, value in answers]

    def named(self):
        return {f"dp0:pp0:pcp0:tp{i}": tensors for i, tensors in enumerate(self.everyone("report"))}

    def get(self, path):
        return {
            "/version": lambda: {"version": self.version},
            "/openapi.json": lambda: {"paths": {route: {} for route in ROUTES}},
            "/health": lambda: None,
            "/metrics": lambda: f"process_start_time_seconds {self.started}\n",
            "/v1/models": lambda: {"object": "list", "data": [{"id": "model", "root": "/m", "parent": None}]},
            "/get_world_size": lambda: {"world_size": len(self.pipes)},
            "/is_paused": lambda: {"is_paused": self.paused},
            "/weight_info": lambda: {"weight_version": self.weight_version},
            "/received": self.named,
        }[path]()

    def post(self, path, body):
        if path == "/pause":
            self.paused = True
            return {"status": "paused"}
        if path == "/resume":
            self.paused = False
            return {"status": "resumed"}
        if path == "/reset_prefix_cache":
            return {"success": True}
        if path == "/init_weight_transfer_engine":
            info = body["init_info"]
            self.packing = info if self.packed_in_init else {}
            self.everyone("init", info)
            return {"message": "Weight transfer initialized"}
        if path == "/start_weight_update":
            if self.open:
                raise RuntimeError("start_weight_update called while a weight update is already active.")
            self.open = True
            return {"message": "Weight update started"}
        if path == "/update_weights":
            if not self.open:
                raise RuntimeError("start_weight_update must be called before update_weights.")
            info = body["update_info"]
            self.everyone("update", info, self.packing if self.packed_in_init else info)
            return {"message": "Weights updated"}
        if path == "/finish_weight_update":
            self.open = False
            self.weight_version = body.get("weight_version", self.weight_version)
            return {"message": "Weight update finished"}
        if path == "/update_weight_version":
            self.weight_version = body["new_version"]
            return {"success": True, "new_version": self.weight_version}
        if path == "/shutdown_weight_transfer_engine":
            return {"message": "Weight transfer engine shut down"}
        if path == "/weight_checker":
            return {
                "checksums": {
                    f"{worker}:{name}": tensor["sha256"]
                    for worker, tensors in self.named().items()
                    for name, tensor in tensors.items()
                }
            }
        raise KeyError(path)


ROUTES = (
    "/version", "/health", "/metrics", "/v1/models", "/v1/completions", "/get_world_size", "/is_paused", "/weight_info",
    "/pause", "/resume", "/reset_prefix_cache", "/collective_rpc", "/init_weight_transfer_engine", "/start_weight_update",
    "/update_weights", "/finish_weight_update", "/update_weight_version", "/shutdown_weight_transfer_engine",
    "/weight_checker",
)  # fmt: skip


def handler(engine):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, value):
            data = b"" if value is None else value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            kind = "text/plain" if isinstance(value, str) else "application/json"
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def serve(self, run):
            try:
                self.answer(200, run())
            except KeyError as error:
                self.answer(404, {"detail": f"Not Found: {error}"})
            except Exception as error:
                message = f"Call to collective_rpc method failed: Worker failed with error '{error}', please check"
                self.answer(500, {"error": {"message": message, "type": "InternalServerError", "code": 500}})

        def do_GET(self):
            self.serve(lambda: engine.get(self.path.split("?")[0]))

        def do_POST(self):
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            self.serve(lambda: engine.post(self.path.split("?")[0], json.loads(data) if data else {}))

    return Handler


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--library", required=True)
    options = parser.parse_args()
    engine = Engine(options.version, options.workers, options.library)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(engine))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    sys.stdin.read()
    os._exit(0)  # the workers are daemons: they see their pipe end


if __name__ == "__main__":
    main()
