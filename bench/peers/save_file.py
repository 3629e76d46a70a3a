"""safetensors.numpy.save_file of the tensors of some files: save_file.py SYNC SOURCE TARGET [SOURCE TARGET ...].

The tensors lie in memory before the clock starts, as a trainer's do; each file is loaded, saved and dropped. numpy has no bfloat16, so their
bytes are saved as uint8. Prints the seconds in save_file (and fsync), and the version.
"""

import json
import os
import sys
import time

import numpy
import safetensors
from safetensors.numpy import save_file


def tensors_of(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        base = file.tell()
        header.pop("__metadata__", None)
        found = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(base + begin)
            found[name] = numpy.fromfile(file, dtype=numpy.uint8, count=end - begin)
        return found


sync, files = sys.argv[1] == "1", sys.argv[2:]
seconds = 0.0
for source, target in zip(files[::2], files[1::2]):
    tensors = tensors_of(source)
    began = time.perf_counter()
    save_file(tensors, target, metadata={"format": "pt"})
    if sync:
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    seconds += time.perf_counter() - began
    del tensors
print(json.dumps({"seconds": seconds, "version": safetensors.__version__}))
