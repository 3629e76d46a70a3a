"""The GPU workers of the engine in engine.py: processes that know vLLM 0.31's worker methods and receive through libnccl."""

import hashlib
import json
import multiprocessing
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import receiver

TORCH_NAMES = {
    "BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "F8_E4M3": "float8_e4m3fn", "I64": "int64",
    "I32": "int32", "U8": "uint8",
}  # fmt: skip


class Rank(receiver.Worker):
    """One worker: methods and arguments as vLLM 0.31's own worker has them, for collective_rpc."""

    def __init__(self, library, index):
        super().__init__(library, index)
        self.packing, self.active = {}, False

    def init_weight_transfer_engine(self, init_info):
        missing = [repr(key) for key in ("rank_offset", "world_size") if key not in init_info]
        if missing:
            raise ValueError(
                "Invalid init_info for NCCLWeightTransferEngine: NCCLWeightTransferInitInfo.__init__() missing "
                f"{len(missing)} required keyword-only arguments: {' and '.join(missing)}"
            )
        self.packing = init_info
        self.init(init_info)

    def start_weight_update(self):
        if self.active:
            raise RuntimeError(
                "start_weight_update called while a weight update is already active. Call finish_weight_update first."
            )
        self.active = True

    def update_weights(self, update_info):
        if not self.active:
            raise RuntimeError("start_weight_update must be called before update_weights.")
        try:
            self.update(update_info, self.packing)
        except BaseException:
            self.active = False
            raise

    def finish_weight_update(self):
        if not self.active:
            raise RuntimeError("finish_weight_update called without a matching start_weight_update.")
        self.active = False

    def reload_weights(self, weights_path):
        files = sorted(name for name in os.listdir(weights_path) if name.endswith(".safetensors"))
        if not files:
            raise RuntimeError(f"Cannot find any model weights with `{weights_path}`")
        for name in files:
            with open(os.path.join(weights_path, name), "rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length))
                for tensor, entry in header.items():
                    if tensor != "__metadata__":
                        begin, end = entry["data_offsets"]
                        file.seek(8 + length + begin)
                        self.keep(tensor, TORCH_NAMES[entry["dtype"]], entry["shape"], file.read(end - begin))
        self.active = False

    def digest(self):
        """What a request is served with: changes with every byte that was received."""
        state = json.dumps(self.received, sort_keys=True).encode()
        return int.from_bytes(hashlib.sha256(state).digest()[:4], "little")


def serve(library, index, pipe):
    rank = Rank(library, index)
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(rank, method)(**arguments)))
        except Exception as error:
            pipe.send((False, str(error)))


class Ranks:
    def __init__(self, library, count):
        spawn = multiprocessing.get_context("spawn")
        self.pipes = []
        for index in range(count):
            mine, theirs = spawn.Pipe()
            spawn.Process(target=serve, args=(library, index, theirs), daemon=True).start()
            self.pipes.append(mine)

    def everyone(self, method, **arguments):
        """Every rank's answer. @raises RuntimeError with the first rank's words."""
        for pipe in self.pipes:
            pipe.send((method, arguments))
        answers = [pipe.recv() for pipe in self.pipes]
        for good, value in answers:
            if not good:
                raise RuntimeError(value)
        return [value for _, value in answers]
