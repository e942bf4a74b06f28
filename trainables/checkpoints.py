"""Checkpoints of packs in flight, as safetensors files: tensors and JSON, nothing executable."""

import io
import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from trainables.pack import NUMERICS_VERSION
from trainables.rows import PackRows

__all__ = ["Checkpoint", "pack_up", "read_members", "unpack"]

TABLES = ("trials", "units", "epochs")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a pack between two epochs.

    Attributes:
        members: Ids of all its trials.
        lanes: Ids of those still in training, in lane order.
        epoch: Epochs completed.
        latent_dim: Units per lane, padding included.
        tensors: What `Pack.tensors` gives.
        rows: Rows so far.
        seconds: Time spent so far.
        samples: Images trained on so far, summed over lanes.
        started_at: ISO 8601.
    """

    members: list[str]
    lanes: list[str]
    epoch: int
    latent_dim: int
    tensors: dict[str, Tensor]
    rows: PackRows
    seconds: float
    samples: int
    started_at: str


def pack_up(checkpoint: Checkpoint) -> bytes:
    """Return the checkpoint as the bytes of a safetensors file."""
    tensors = {f"tensor.{name}": t.contiguous() for name, t in checkpoint.tensors.items()}
    for table in TABLES:
        frame = getattr(checkpoint.rows, table)
        if len(frame):
            tensors[f"table.{table}"] = _as_tensor(frame.to_parquet(index=False))
    for trial_id, model in checkpoint.rows.models.items():
        tensors[f"model.{trial_id}"] = _as_tensor(model)
    state = {
        "numerics_version": NUMERICS_VERSION,
        "members": checkpoint.members,
        "lanes": checkpoint.lanes,
        "epoch": checkpoint.epoch,
        "latent_dim": checkpoint.latent_dim,
        "seconds": checkpoint.seconds,
        "samples": checkpoint.samples,
        "started_at": checkpoint.started_at,
    }
    return save(tensors, {"state": json.dumps(state)})


def unpack(data: bytes, members: list[str]) -> Checkpoint:
    """Read what `pack_up` wrote.

    Raises:
        ValueError: It is damaged, or of other trials or another numerics version.
    """
    state = _state(data)
    if state["members"] != members:
        raise ValueError("the checkpoint is of other trials")
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"not a checkpoint: {error}") from error
    frames = {table: pd.DataFrame() for table in TABLES}
    models: dict[str, bytes] = {}
    pack_tensors: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        kind, name = key.split(".", 1)
        if kind == "table":
            frames[name] = pd.read_parquet(io.BytesIO(_as_bytes(tensor)))
        elif kind == "model":
            models[name] = _as_bytes(tensor)
        else:
            pack_tensors[name] = tensor
    return Checkpoint(**state, tensors=pack_tensors, rows=PackRows(**frames, models=models))


def read_members(data: bytes) -> list[str]:
    """Return the ids of a checkpoint's trials, from its header alone.

    Raises:
        ValueError: It is damaged, or of another numerics version.
    """
    return list(_state(data)["members"])


def _state(data: bytes) -> dict[str, Any]:
    try:
        header_size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + header_size])
        state: dict[str, Any] = json.loads(header["__metadata__"]["state"])
        version = state.pop("numerics_version")
    except (ValueError, KeyError, TypeError) as error:  # ValueError: neither UTF-8 nor JSON
        raise ValueError(f"not a checkpoint: {error}") from error
    if version != NUMERICS_VERSION:
        raise ValueError("the checkpoint is of another numerics version")
    return state


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _as_bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
