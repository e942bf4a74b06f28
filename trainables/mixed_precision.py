"""Mixed precision: products of float32 numbers whose factors are rounded to what is faster."""

from types import TracebackType
from typing import Any, Self

import torch

from search_spaces import BadInput

__all__ = ["ProductFormat", "require_mixed_precision"]

BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")


class ProductFormat:
    """A context in which PyTorch multiplies float32 numbers in a format of the device's.

    It is one of PyTorch's `fp32_precision`: what factors are rounded to before they are
    multiplied. Sums, and all that is stored, stay float32. It can be entered again and again.
    """

    def __init__(self, device: torch.device, name: str) -> None:
        """Take the switches of a device."""
        backends: Any = torch.backends  # whose modules get these attributes when they are loaded
        if device.type == "cuda":
            self._switches = [backends.cuda.matmul, backends.cudnn.conv]
        else:
            self._switches = [backends.mkldnn.matmul, backends.mkldnn.conv]
        self._name = name

    @classmethod
    def fastest(cls, device: torch.device) -> Self:
        """Return bfloat16 for a CPU, TF32 for a GPU."""
        return cls(device, "tf32" if device.type == "cuda" else "bf16")

    @classmethod
    def full(cls, device: torch.device) -> Self:
        """Return float32 itself."""
        return cls(device, "ieee")

    def __enter__(self) -> None:
        self._before = [switch.fp32_precision for switch in self._switches]
        for switch in self._switches:
            switch.fp32_precision = self._name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for switch, before in zip(self._switches, self._before, strict=True):
            switch.fp32_precision = before


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
