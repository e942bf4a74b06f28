"""Mixed precision: products of float32 numbers whose factors are rounded to what is faster."""

from types import TracebackType
from typing import Any, Literal, Self

import torch

from search_spaces import BadInput

__all__ = ["ProductFormat", "multiply_in_full", "require_mixed_precision"]

Products = Literal["matrices", "convolutions"]

FULL = "ieee"
BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")


class ProductFormat:
    """A context in which PyTorch multiplies float32 numbers in a format of the device's.

    It is one of PyTorch's `fp32_precision`: what factors are rounded to before they are
    multiplied. Sums, and all that is stored, stay float32. It can be entered again and again.
    """

    def __init__(self, device: torch.device, products: Products, name: str) -> None:
        """Take the switch of a device.

        Args:
            device: It multiplies.
            products: Which: of matrices, or convolutions.
            name: Of the format.
        """
        backends: Any = torch.backends  # whose modules get these attributes when they are loaded
        if products == "convolutions":
            library = backends.cudnn if device.type == "cuda" else backends.mkldnn
            self._switch = library.conv
        else:
            library = backends.cuda if device.type == "cuda" else backends.mkldnn
            self._switch = library.matmul
        self._name = name

    @classmethod
    def fastest(cls, device: torch.device, products: Products) -> Self:
        """Return bfloat16 for a CPU, TF32 for a GPU."""
        return cls(device, products, "tf32" if device.type == "cuda" else "bf16")

    @classmethod
    def full(cls, device: torch.device, products: Products) -> Self:
        """Return float32 itself."""
        return cls(device, products, FULL)

    def __enter__(self) -> None:
        self._before = self._switch.fp32_precision
        self._switch.fp32_precision = self._name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._switch.fp32_precision = self._before


def multiply_in_full() -> None:
    """Let this process multiply float32 numbers as such, which cuDNN by itself would not."""
    backends: Any = torch.backends
    for switch in (backends.cuda.matmul, backends.cudnn.conv):
        switch.fp32_precision = FULL


def require_mixed_precision(device: torch.device) -> None:
    """Refuse a device that would train in float32 all the same, or more slowly.

    Raises:
        BadInput: It has no instructions for such products.
    """
    if device.type == "cuda":
        able = torch.cuda.get_device_capability(device) >= (8, 0)
        wanted = "a GPU with TF32 (Ampere or newer)"
    else:
        capabilities = torch.cpu.get_capabilities()
        able = any(capabilities.get(name, False) for name in BFLOAT16_INSTRUCTIONS)
        wanted = "a CPU with bfloat16 (AMX or AVX-512 BF16)"
    if not able:
        raise BadInput(f"precision: 'mixed' needs {wanted}; this one has none, so give 'float32'")
