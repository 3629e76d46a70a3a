"""The reference safetensors library as a judge.

    python safetensors_reference.py write FILE   writes a file with every dtype that the library knows
    python safetensors_reference.py read DIR     prints {file: {"tensors": {name: {dtype, shape, sha256}}} | {"error": text}}
"""

import ctypes
import hashlib
import json
import os
import sys

import safetensors

BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
WRITTEN_AS = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn", "I16": "int16",
    "U16": "uint16", "F16": "float16", "BF16": "bfloat16", "I32": "int32", "U32": "uint32", "F32": "float32",
    "I64": "int64", "U64": "uint64", "F64": "float64",
}  # fmt: skip
SHAPES = [[], [1], [3, 5], [0, 4], [2, 3, 4]]


def write(file):
    tensors, alive = {}, []
    for index, (dtype, size) in enumerate(BYTES.items()):
        for shape in SHAPES:
            count = size
            for dimension in shape:
                count *= dimension
            data = bytes((index * 31 + i * 7) % 256 for i in range(count))
            alive.append((ctypes.c_ubyte * max(count, 1)).from_buffer_copy(data or b"\0"))
            tensors[f"layers.{len(tensors)}.{dtype.lower()}.weight"] = safetensors.TensorSpec(
                dtype=WRITTEN_AS[dtype],
                shape=shape,
                data_ptr=ctypes.addressof(alive[-1]),
                data_len=count,
            )
    safetensors.serialize_file(tensors, file, metadata={"format": "pt", "é": "\n\"\\"})


def read(directory):
    verdicts = {}
    for file in sorted(os.listdir(directory)):
        with open(os.path.join(directory, file), "rb") as stream:
            data = stream.read()
        try:
            tensors = {}
            for name, view in safetensors.deserialize(data):
                digest = hashlib.sha256(bytes(view["data"])).hexdigest()
                tensors[name] = {"dtype": view["dtype"], "shape": list(view["shape"]), "sha256": digest}
            verdicts[file] = {"tensors": tensors}
        except Exception as error:
            verdicts[file] = {"error": str(error)}
    return verdicts


if __name__ == "__main__":
    action, path = sys.argv[1:]
    if action == "write":
        write(path)
    else:
        print(json.dumps(read(path)))
