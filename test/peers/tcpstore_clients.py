"""Real torch clients and masters of a TCPStore, driven by tcpstore.test.ts. Each role exits 0 when all it checked held."""

import ctypes
import datetime
import pickle
import sys
import types

import torch.distributed as dist

WRAPPER = "vllm.distributed.device_communicators.pynccl_wrapper"


def client(port, world_size=None, timeout=30):
    return dist.TCPStore(
        "127.0.0.1",
        int(port),
        world_size,
        is_master=False,
        timeout=datetime.timedelta(seconds=timeout),
    )


def raises(kind, function, *arguments):
    try:
        function(*arguments)
    except kind:
        return True
    raise AssertionError(f"{function} did not raise {kind}")


def operations(port, rank):
    """Two processes: every operation of the sheet, alone and against each other."""
    rank = int(rank)
    store = client(port, 2)
    me = f"of{rank}/"
    short = datetime.timedelta(milliseconds=200)

    store.set(me + "k", "väl\0ue")
    assert store.get(me + "k") == "väl\0ue".encode()
    store.set(me + "empty", "")
    assert store.get(me + "empty") == b""
    big = bytes(range(256)) * 4096 * 3
    store.set(me + "big", big)
    assert store.get(me + "big") == big
    assert store.add(me + "n", 5) == 5 and store.add(me + "n", -7) == -2 and store.get(me + "n") == b"-2"
    assert store.compare_set(me + "cs", "", "a") == b"a" and store.compare_set(me + "cs", "b", "c") == b"a"
    assert store.compare_set(me + "cs", "a", "d") == b"d" and store.compare_set(me + "lie", "x", "y") == b"x"
    assert store.check([me + "k", me + "n"]) and not store.check([me + "k", me + "none"])
    store.append(me + "ap", "ab")
    store.append(me + "ap", "cd")
    assert store.get(me + "ap") == b"abcd"
    store.multi_set([me + "m1", me + "m2"], ["1", "22"])
    assert store.multi_get([me + "m1", me + "m2"]) == [b"1", b"22"]
    assert store.delete_key(me + "m1") and not store.delete_key(me + "m1")
    assert store.num_keys() > 5
    raises(dist.DistStoreError, store.wait, [me + "none"], short)
    assert me + "k" in store.list_keys() and "init/" not in store.list_keys()
    store.queue_push(me + "q", "one")
    store.queue_push(me + "q", "two")
    assert store.queue_len(me + "q") == 2 and store.queue_pop(me + "q") == b"one"
    assert store.queue_pop(me + "q", False) == b"two"
    raises(dist.QueueEmptyError, store.queue_pop, me + "q", False)
    twin = store.clone()
    assert twin.get(me + "cs") == b"d"
    dist.PrefixStore("outer", dist.PrefixStore("inner", store)).set(me + "p", "v")
    assert store.get(f"inner/outer/{me}p") == b"v"

    # Against the other process: each waits for what the other does.
    store.barrier("all", 2, datetime.timedelta(seconds=30))
    if rank == 0:
        assert store.get("from1") == b"hello"
        assert store.queue_pop("jobs") == b"job"
        store.set("from0", "bye")
    else:
        store.set("from1", "hello")
        store.queue_push("jobs", "job")
        store.wait(["from0", "late"], datetime.timedelta(seconds=30))
    if rank == 0:
        store.add("late", 1)
    assert store.add("done", 1) in (1, 2)


def stub_wrapper():
    """A module of vLLM's name with vLLM's class, so that pickle finds it without vLLM."""
    name = ""
    for part in WRAPPER.split("."):
        name = f"{name}.{part}" if name else part
        sys.modules[name] = types.ModuleType(name)

    class ncclUniqueId(ctypes.Structure):
        _fields_ = [("internal", ctypes.c_byte * 128)]

    ncclUniqueId.__module__ = WRAPPER
    ncclUniqueId.__qualname__ = "ncclUniqueId"
    sys.modules[WRAPPER].ncclUniqueId = ncclUniqueId
    return ncclUniqueId


def worker(port, world_size):
    """What vLLM's worker does, with torch alone."""
    kind = stub_wrapper()
    unique_id = pickle.loads(client(port, int(world_size)).get("broadcast_from/0/0"))
    assert type(unique_id) is kind
    print(bytes(unique_id).hex())


def vllm_worker(port, rank, world_size):
    """vLLM's own group and class."""
    from vllm.distributed.device_communicators.pynccl_wrapper import ncclUniqueId
    from vllm.distributed.utils import StatelessProcessGroup

    group = StatelessProcessGroup.create("127.0.0.1", int(port), int(rank), int(world_size))
    unique_id = group.broadcast_obj(None, src=0)
    assert type(unique_id) is ncclUniqueId
    print(bytes(unique_id).hex())


def gloo(port, rank, world_size):
    import torch

    dist.init_process_group("gloo", store=client(port), rank=int(rank), world_size=int(world_size))
    total = torch.tensor([float(rank) + 1])
    dist.all_reduce(total)
    subgroup = dist.new_group(list(range(int(world_size))))
    dist.all_reduce(total, group=subgroup)
    dist.destroy_process_group()
    print(total.item())


def master(libuv):
    """Rank 0 in torch: prints its port, returns from the constructor once one worker joined, then talks to it."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    print(port, flush=True)
    store = dist.TCPStore(
        "127.0.0.1",
        port,
        2,
        is_master=True,
        timeout=datetime.timedelta(seconds=60),
        master_listen_fd=listener.detach(),
        use_libuv=libuv == "libuv",
    )
    store.set("broadcast_from/0/0", bytes(range(256)))
    assert store.get("answer") == b"42"
    assert store.add("n", 1) == 6
    store.set("bye", "")
    assert store.get("closing") == b""


ROLES = {role.__name__: role for role in (operations, worker, vllm_worker, gloo, master)}
ROLES[sys.argv[1]](*sys.argv[2:])
