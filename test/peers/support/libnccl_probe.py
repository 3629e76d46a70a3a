"""Calls a real libnccl on a machine with no GPU, and prints what it answers as JSON.

    python3 libnccl_probe.py PATH/libnccl.so.2
"""

import ctypes
import json
import sys


class UniqueId(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_byte * 128)]


def main(path):
    nccl = ctypes.CDLL(path)
    nccl.ncclGetErrorString.restype = nccl.ncclGetLastError.restype = ctypes.c_char_p
    nccl.ncclCommInitRank.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, UniqueId, ctypes.c_int]
    nccl.ncclBroadcast.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 2 + [ctypes.c_void_p] * 2

    version, comm, unique, code = ctypes.c_int(), ctypes.c_void_p(), UniqueId(), ctypes.c_int()
    said = {
        "ncclGetVersion": nccl.ncclGetVersion(ctypes.byref(version)),
        "version": version.value,
        "ncclGetUniqueId": nccl.ncclGetUniqueId(ctypes.byref(unique)),
        "idIsZero": not any(unique.internal),
        "ncclGroupStart": nccl.ncclGroupStart(),
        "ncclGroupEnd": nccl.ncclGroupEnd(),
        "unmatched ncclGroupEnd": nccl.ncclGroupEnd(),
        "ncclBroadcast of NULL": nccl.ncclBroadcast(None, None, 1, 1, 0, None, None),
        "ncclCommDestroy of NULL": nccl.ncclCommDestroy(None),
        "ncclCommAbort of NULL": nccl.ncclCommAbort(None),
        "ncclCommFinalize of NULL": nccl.ncclCommFinalize(None),
        "ncclCommGetAsyncError of NULL": nccl.ncclCommGetAsyncError(None, ctypes.byref(code)),
        "ncclGetUniqueId into NULL": nccl.ncclGetUniqueId(None),
        "ncclCommInitRank": nccl.ncclCommInitRank(ctypes.byref(comm), 2, unique, 0),
        "commIsNull": comm.value is None,
        "lastError": nccl.ncclGetLastError(None).decode(),
        "errors": [nccl.ncclGetErrorString(i).decode() for i in range(9)],
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
