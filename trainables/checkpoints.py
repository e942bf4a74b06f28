"""Checkpoints of packs in flight, as safetensors files: tensors and JSON, nothing executable."""

import hashlib
import io
import json
from collections.abc import Mapping
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
        seconds: Each lane's equal share of the time spent so far.
        samples: Images that each lane has been trained on so far.
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
    tensors = {f"tensor.{name}": t.cpu().contiguous() for name, t in checkpoint.tensors.items()}
    for table in TABLES:
        frame = getattr(checkpoint.rows, table)
        if len(frame):
            tensors[f"table.{table}"] = _as_tensor(frame.to_parquet(index=False))
    for trial_id, model in checkpoint.rows.models.items():
        tensors[f"model.{trial_id}"] = _as_tensor(model)
    state = {
        "members": checkpoint.members,
        "lanes": checkpoint.lanes,
        "epoch": checkpoint.epoch,
        "latent_dim": checkpoint.latent_dim,
        "seconds": checkpoint.seconds,
        "samples": checkpoint.samples,
        "started_at": checkpoint.started_at,
    }
    checks = {"numerics_version": NUMERICS_VERSION, "sha256": _digest(state, tensors)}
    return save(tensors, {"state": json.dumps(state | checks)})


def unpack(data: bytes, members: list[str]) -> Checkpoint:
    """Read what `pack_up` wrote.

    Raises:
        ValueError: It is damaged, or of other trials or another numerics version.
    """
    state, tensors = _content(data)
    if state["members"] != members:
        raise ValueError("the checkpoint is of other trials")
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
    """Return the ids of a checkpoint's trials, if all of it is sound.

    Raises:
        ValueError: It is damaged, or of another numerics version.
    """
    return list(_content(data)[0]["members"])


def _content(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return state and tensors as they were packed up."""
    try:
        tensors = safetensors.torch.load(data)
        header_size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + header_size])
        state = dict(json.loads(header["__metadata__"]["state"]))
        version, digest = state.pop("numerics_version"), state.pop("sha256")
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a checkpoint: {error}") from error
    if version != NUMERICS_VERSION:
        raise ValueError("the checkpoint is of another numerics version")
    if digest != _digest(state, tensors):
        raise ValueError("not a checkpoint: its content has changed since it was written")
    return state, tensors


def _digest(state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of all content; safetensors itself checks sizes only."""
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(_as_bytes(tensors[name]))
    return digest.hexdigest()


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _as_bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
