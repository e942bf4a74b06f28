"""How a process that trains packs uses its machine: threads, memory and arithmetic."""

import ctypes
import gc
import platform

import torch

from trainables.mixed_precision import multiply_in_full

__all__ = ["is_out_of_memory", "prepare_process", "release_memory"]

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3

# What PyTorch says in a RuntimeError: on a CPU always, on a GPU where a library or the driver
# allocates instead of its own allocator.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def prepare_process(threads: int) -> None:
    """Set this process up for training.

    Freed memory is kept: given back to the kernel, it has to be cleared page by page when the
    next step asks for it again, a sixth of a convolutional step.

    Args:
        threads: CPU threads of each operation.
    """
    torch.set_num_threads(threads)
    multiply_in_full()
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(M_TOP_PAD, 1 << 26)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory, the machine's or the GPU's, did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def release_memory() -> None:
    """Give back what nothing refers to any more, the GPU's included."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
