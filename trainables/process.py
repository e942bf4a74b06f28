"""How a process that trains packs uses its machine: threads and memory."""

import ctypes
import platform

import torch

__all__ = ["prepare_process"]

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def prepare_process(threads: int) -> None:
    """Set this process up for training.

    Freed memory is kept: given back to the kernel, it has to be cleared page by page when the
    next step asks for it again, a sixth of a convolutional step.

    Args:
        threads: CPU threads of each operation.
    """
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(M_TOP_PAD, 1 << 26)
