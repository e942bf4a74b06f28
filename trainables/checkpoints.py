"""Checkpoints of packs in flight, as safetensors files: tensors and JSON, nothing executable."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from trainables.pack import NUMERICS_VERSION
from trainables.rows import ROW_TABLES, PackRows

__all__ = ["Checkpoint", "Part", "pack_up", "read_members", "unpack"]


@dataclass(frozen=True)
class Part:
    """Lanes that train together, between two epochs.

    Attributes:
        lanes: Their ids, in lane order.
        epoch: Epochs completed.
        latent_dim: Units per lane, padding included.
        tensors: What `Pack.tensors` gives; empty where nothing has been trained yet.
        seconds: Each lane's equal share of the time spent so far.
        samples: Images that each lane has been trained on so far.
        probe: What the probe of each lane knows of it (`trainables.probes`), values of JSON; empty
            in training.
    """

    lanes: list[str]
    epoch: int
    latent_dim: int
    tensors: dict[str, Tensor]
    seconds: float
    samples: int
    probe: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a pack between two epochs.

    Attributes:
        members: Ids of all its trials.
        parts: The lanes still in training: all in one part, or in several to be trained one after
            the other, where memory does not suffice.
        rows: Rows so far.
        started_at: ISO 8601.
    """

    members: list[str]
    parts: list[Part]
    rows: PackRows
    started_at: str


def pack_up(checkpoint: Checkpoint) -> bytes:
    """Return the checkpoint as the bytes of a safetensors file."""
    tensors = {
        f"tensor.{number}.{name}": tensor.cpu().contiguous()
        for number, part in enumerate(checkpoint.parts)
        for name, tensor in part.tensors.items()
    }
    for table in ROW_TABLES:
        frame = getattr(checkpoint.rows, table)
        if len(frame):
            tensors[f"table.{table}"] = _as_tensor(frame.to_parquet(index=False))
    for trial_id, model in checkpoint.rows.models.items():
        tensors[f"model.{trial_id}"] = _as_tensor(model)
    state = {
        "members": checkpoint.members,
        "parts": [
            {
                "lanes": part.lanes,
                "epoch": part.epoch,
                "latent_dim": part.latent_dim,
                "seconds": part.seconds,
                "samples": part.samples,
                "probe": part.probe,
            }
            for part in checkpoint.parts
        ],
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
    frames = {table: pd.DataFrame() for table in ROW_TABLES}
    models: dict[str, bytes] = {}
    parts = [Part(**part, tensors={}) for part in state["parts"]]
    for key, tensor in tensors.items():
        kind, name = key.split(".", 1)
        if kind == "table":
            frames[name] = pd.read_parquet(io.BytesIO(_as_bytes(tensor)))
        elif kind == "model":
            models[name] = _as_bytes(tensor)
        else:
            number, name = name.split(".", 1)
            parts[int(number)].tensors[name] = tensor
    rows = PackRows(**frames, models=models)
    return Checkpoint(members, parts, rows, state["started_at"])


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
    if "parts" not in state:
        raise ValueError("not a checkpoint of this vae-study: an earlier one wrote it")
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
