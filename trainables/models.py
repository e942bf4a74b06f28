"""Trained models as safetensors files, and reading them back: encode, decode, generate."""

import json
import math
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from search_spaces import BadInput, Shape, Trial
from trainables.architectures import build_network
from trainables.pack import Pack

__all__ = ["TrainedVAE", "load_model", "model_bytes"]

METADATA = "vae-study"
"""The metadata's key for the trial and the shape of an image, as JSON."""


def model_bytes(pack: Pack, lane: int) -> bytes:
    """Return one lane's weights as the bytes of a safetensors file.

    Names and shapes are those of PyTorch's own layers at the trial's latent_dim; the metadata
    holds the trial and the shape of an image.
    """
    trial = pack.trials[lane]
    tensors = pack.parameters.lane_values(lane, pack.parameter_shapes(trial.latent_dim))
    tensors |= pack.state.lane_values(lane, pack.network.buffers())
    model = {"trial": trial.model_dump(mode="json"), "shape": list(pack.data.shape)}
    # One key only: safetensors writes several in an order that changes from call to call.
    metadata = {METADATA: json.dumps(model)}
    return save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata)


def load_model(path: str | Path) -> "TrainedVAE":
    """Load a model that a study saved: `models/TRIAL_ID.safetensors`, with `record.models: true`.

    Args:
        path: A safetensors file.

    Returns:
        The VAE, on the CPU.

    Raises:
        BadInput: No such file, or not a model of a study.

    Example:
        >>> vae = load_model("studies/mnist-dense/models/0123456789abcdef0123.safetensors")
        >>> images = vae.generate(10)  # (10, 1, 28, 28), in [0, 1]
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
        model = json.loads(metadata[METADATA])
        return TrainedVAE(Trial.model_validate(model["trial"]), tuple(model["shape"]), tensors)
    except FileNotFoundError:
        raise BadInput(f"model: {path} does not exist; give a file of a study's models/") from None
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as e:
        raise BadInput(f"model: {path} is not a saved model of a study ({e})") from e


class TrainedVAE:
    """A trained VAE for use: no gradients, batch normalisation with its running statistics.

    Attributes:
        trial: The hyperparameters it was trained with.
        shape: Shape of one image, (channels, height, width) or (values,).
    """

    def __init__(self, trial: Trial, shape: Shape, tensors: dict[str, Tensor]) -> None:
        """Take the weights of one lane, at the trial's latent_dim.

        Raises:
            ValueError: The weights are not those of the trial's network.
        """
        self.trial = trial
        self.shape = shape
        self._network = build_network(trial.architecture, shape)
        for declared in (*self._network.parameters(trial.latent_dim), *self._network.buffers()):
            if declared.name not in tensors or tensors[declared.name].shape != declared.shape:
                raise ValueError(f"{declared.name} of shape {declared.shape} is missing")
        self._tensors = {name: tensor.unsqueeze(0) for name, tensor in tensors.items()}
        self._dtype = next(iter(tensors.values())).dtype

    @torch.no_grad()
    def encode(
        self, images: "np.ndarray[tuple[int, ...], np.dtype[np.generic]] | Tensor"
    ) -> tuple[Tensor, Tensor]:
        """Return posterior mean and variance, each (images, latent_dim).

        Args:
            images: Shape (images, *shape) or (images, values); uint8 pixels, or numbers on the
                scale of the training data ([0, 1] for pixels).
        """
        tensor = torch.as_tensor(images)
        scale = 255 if tensor.dtype == torch.uint8 else 1
        batch = tensor.reshape(len(tensor), -1).to(self._dtype) / scale
        mean, log_variance = self._network.encode(
            self._tensors, batch, self._tensors, training=False
        )
        return mean[0], log_variance[0].exp()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the decoder's means for codes (images, latent_dim), shape (images, *shape)."""
        batch = codes.to(self._dtype).unsqueeze(0)
        output = self._network.decode(self._tensors, batch, self._tensors, training=False)[0]
        if self.trial.decoder == "bernoulli":
            output = torch.sigmoid(output)
        return output.view(len(codes), *self.shape)

    def generate(self, images: int, seed: int = 0) -> Tensor:
        """Decode samples of the prior N(0, 1); returns (images, *shape)."""
        generator = torch.Generator().manual_seed(seed)
        return self.decode(torch.randn(images, self.trial.latent_dim, generator=generator))

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        shapes = self._network.parameters(self.trial.latent_dim)
        return sum(math.prod(shape.shape) for shape in shapes)
