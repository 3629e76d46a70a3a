"""torch's own libuv TCPStore server as rank 0 of a vLLM group: argv is the number of workers.

Like bench/cases/rendezvous/server.ts: for the line on stdin it prints its port, and its CPU seconds when the clients have the id,
which it is told by a second line.
"""

import datetime
import resource
import socket
import sys

import torch
import torch.distributed as dist


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
print(torch.__version__, flush=True)
sys.stdin.readline()
began = cpu_seconds()
# As StatelessProcessGroup does it: a socket of its own, handed over. It listens before its port is told.
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.bind(("127.0.0.1", 0))
listener.listen(4096)
port = listener.getsockname()[1]
print(port, flush=True)
store = dist.TCPStore(
    "127.0.0.1",
    port,
    int(sys.argv[1]) + 1,
    is_master=True,
    timeout=datetime.timedelta(seconds=60),
    master_listen_fd=listener.detach(),
    use_libuv=True,
)
store.set("broadcast_from/0/0", bytes(247))
sys.stdin.readline()
print(cpu_seconds() - began, flush=True)
