"""torch's own libuv TCPStore server as rank 0 of a vLLM group: argv is the number of workers.

Prints its port, serves the pickled id once all have joined, prints its CPU seconds at the end of stdin.
"""

import datetime
import resource
import socket
import sys

import torch
import torch.distributed as dist

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

# As StatelessProcessGroup does it: a socket of its own, handed over. It listens before its port is told.
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.bind(("127.0.0.1", 0))
listener.listen(4096)
port = listener.getsockname()[1]
usage = resource.getrusage(resource.RUSAGE_SELF)
print(torch.__version__, port, flush=True)
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
sys.stdin.read()
now = resource.getrusage(resource.RUSAGE_SELF)
print(now.ru_utime + now.ru_stime - usage.ru_utime - usage.ru_stime, flush=True)
