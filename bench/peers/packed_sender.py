"""vLLM's own packed producer as rank 0: reads a checkpoint with safetensors and broadcasts it, over whatever libnccl it is given.

    packed_sender.py LIBNCCL WORLD_SIZE BUFFER_BYTES PLUGIN_FOLDER < JSON [[name, path], …]

vLLM's code runs as it is in the wheel. Where it names a CUDA stream it gets a queue with a thread behind it, so that its two buffers overlap
as they do on a GPU: a broadcast is queued, and the next chunk is packed meanwhile. The mapped file counts as
device memory: the copy that `tensor.to("cuda")` is on a GPU is not asked of it.
Prints the unique id, and at the end a line of JSON: what it took from the first read to the last byte sent.
"""

import json
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

nccl_path, world_size, buffer_bytes, plugin_folder = sys.argv[1:5]
plan = json.load(sys.stdin)
os.environ["VLLM_NCCL_SO_PATH"] = nccl_path
sys.path.insert(0, plugin_folder)

import torch  # noqa: E402
import vllm  # noqa: E402
import weightcast_cpu_streams as plugin  # noqa: E402
from safetensors import safe_open  # noqa: E402

torch.set_num_threads(1)
# NCCL runs the operations of a communicator in the order in which they were queued, whatever their streams.
nccl_queue = ThreadPoolExecutor(1)
entered = []


class Stream(plugin.Stream):
    def __init__(self, *args, **kwargs):
        self.last = None

    def synchronize(self):
        if self.last is not None:
            self.last.result()

    def __enter__(self):
        entered.append(self)

    def __exit__(self, *error):
        entered.pop()


plugin.TORCH = plugin.View(
    torch,
    cuda=plugin.View(torch.cuda, Stream=Stream, current_stream=plugin.Stream, stream=lambda stream: stream),
    accelerator=plugin.TORCH.accelerator,
)
plugin.answer_receive_code()

from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator  # noqa: E402
from vllm.distributed.device_communicators.pynccl_wrapper import NCCLLibrary  # noqa: E402
from vllm.distributed.weight_transfer.packed_tensor import packed_nccl_broadcast_producer  # noqa: E402


class Group:
    """PyNcclCommunicator whose broadcasts are queued on the current stream."""

    def __init__(self, communicator):
        self.communicator = communicator

    def broadcast(self, tensor, src):
        entered[-1].last = nccl_queue.submit(self.communicator.broadcast, tensor, src=src)


def tensors():
    files = {}
    for name, path in plan:
        if path not in files:
            files[path] = safe_open(path, framework="pt", device="cpu")
        yield name, files[path].get_tensor(name)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_bytes():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


unique_id = bytes(NCCLLibrary(nccl_path).ncclGetUniqueId().internal)
print(unique_id.hex(), flush=True)
communicator = PyNcclCommunicator.from_unique_id_bytes(unique_id, 0, int(world_size), plugin.CPU, nccl_path)

began, cpu_began = time.monotonic(), cpu_seconds()
packed_nccl_broadcast_producer(
    iterator=tensors(), group=Group(communicator), src=0, post_iter_func=lambda item: item[1], buffer_size_bytes=int(buffer_bytes)
)
seconds, cpu = time.monotonic() - began, cpu_seconds() - cpu_began
result = {
    "seconds": seconds,
    "cpuSeconds": cpu,
    "peakBytes": peak_bytes(),
    "versions": {"vllm": vllm.__version__, "torch": torch.__version__},
}
print(json.dumps(result), flush=True)
communicator.destroy()
os._exit(0)  # vLLM's own threads need not be waited for
