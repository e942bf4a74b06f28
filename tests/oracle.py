"""A plain VAE trainer for one model, written without a look at the fused one: the tests' oracle.

Ordinary `torch.nn` layers, one optimizer, one model, numpy statistics over whole arrays. It
shares with the trainer only the definition of the random streams, restated here.
"""

import hashlib
import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces import Trial


def generator(*address: object) -> torch.Generator:
    digest = hashlib.sha256(":".join(map(str, address)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Crop(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.size, : self.size]


class PlainVAE(nn.Module):
    def __init__(self, trial: Trial, shape: tuple[int, ...]):
        super().__init__()
        family, widths, d = trial.architecture.family, trial.architecture.widths, trial.latent_dim
        values = math.prod(shape)
        self.shape = shape
        self.linear = family == "linear"
        self.fixed_log_variance = nn.Parameter(torch.zeros(d)) if self.linear else None
        if family in ("dense", "linear"):
            sizes = [values, *widths]
            self.encoder = nn.Sequential(nn.Flatten())
            for a, b in itertools.pairwise(sizes):
                self.encoder += nn.Sequential(nn.Linear(a, b), nn.ReLU())
            features = sizes[-1]
            self.decoder = nn.Sequential()
            sizes = [d, *reversed(sizes)]
            for a, b in itertools.pairwise(sizes):
                self.decoder += nn.Sequential(nn.Linear(a, b), nn.ReLU())
            self.decoder = self.decoder[:-1]
        elif trial.architecture.name == "paper-conv":
            features = 32
            self.encoder = nn.Sequential(
                *(nn.Conv2d(shape[0], 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
                *(nn.Conv2d(16, 32, 3, 1, 1), nn.Conv2d(32, 32, 3, 2, 1)),
                *(nn.BatchNorm2d(32), nn.ReLU()),
                *(nn.Conv2d(32, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, 1, 1)),
                *(nn.BatchNorm2d(32), nn.ReLU()),
                *(nn.Conv2d(32, 32, 2, 2), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(32, 32, 2)),
                *(nn.BatchNorm2d(32), nn.ReLU()),
                *(nn.Conv2d(32, 32, 2), nn.Flatten()),
            )
            self.decoder = nn.Sequential(
                *(nn.Linear(d, 32), nn.Unflatten(1, (32, 1, 1))),
                *(nn.ConvTranspose2d(32, 32, 2), nn.BatchNorm2d(32), nn.ReLU()),
                *(nn.ConvTranspose2d(32, 32, 2), Crop(2), nn.ConvTranspose2d(32, 32, 2, 2)),
                *(nn.BatchNorm2d(32), nn.ReLU()),
                *(nn.ConvTranspose2d(32, 32, 3, 1, 1), nn.ConvTranspose2d(32, 32, 3, 2, 1)),
                *(nn.BatchNorm2d(32), nn.ReLU()),
                *(nn.ConvTranspose2d(32, 32, 3, 2, 1, 1), nn.ConvTranspose2d(32, 16, 3, 1, 1)),
                *(nn.BatchNorm2d(16), nn.ReLU()),
                nn.ConvTranspose2d(16, shape[0], 3, 2, 1, 1),
            )
        else:
            channels = [shape[0], *widths]
            heights = [shape[1]]
            self.encoder = nn.Sequential()
            for a, b in itertools.pairwise(channels):
                stage = nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
                self.encoder += stage
                heights.append(math.ceil(heights[-1] / 2))
            self.encoder += nn.Sequential(nn.Flatten())
            features = channels[-1] * heights[-1] ** 2
            self.decoder = nn.Sequential(
                nn.Linear(d, features), nn.Unflatten(1, (channels[-1], heights[-1], heights[-1]))
            )
            for stage in range(len(widths), 0, -1):
                a, b = channels[stage], channels[stage - 1]
                even = 1 - heights[stage - 1] % 2
                self.decoder += nn.Sequential(nn.ConvTranspose2d(a, b, 3, 2, 1, even))
                if stage > 1:
                    self.decoder += nn.Sequential(nn.BatchNorm2d(b), nn.ReLU())
        self.mean = nn.Linear(features, d)
        self.log_variance = None if self.linear else nn.Linear(features, d)
        learned = trial.decoder == "gaussian_learned"
        self.log_s = nn.Parameter(torch.zeros(())) if learned else None
        self.draw(trial)
        for layers in (list(self.encoder), list(self.decoder)):
            for layer, following in itertools.pairwise(layers):
                if isinstance(following, nn.BatchNorm2d):  # which subtracts the bias again
                    layer.bias.requires_grad_(False)

    def draw(self, trial: Trial) -> None:
        """Glorot or torch initialisation, encoder, heads, decoder, each weight then bias."""
        g = generator("weights", trial.seed)
        heads = [self.mean] if self.log_variance is None else [self.mean, self.log_variance]
        for module in [*self.encoder, *heads, *self.decoder]:
            if not isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                continue
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            if trial.initialisation == "glorot":
                bound = math.sqrt(6 / (fan_in + fan_out))
            else:
                bound = 1 / math.sqrt(fan_in)
            with torch.no_grad():
                draw = torch.rand(module.weight.shape, generator=g)
                module.weight.copy_((draw * 2 - 1) * bound)
                module.bias.zero_()
                if trial.initialisation == "torch":
                    draw = torch.rand(module.bias.shape, generator=g)
                    module.bias.copy_((draw * 2 - 1) * bound)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.encoder(x)
        mean = self.mean(h)
        if self.log_variance is None:
            return mean, self.fixed_log_variance.expand_as(mean)
        return mean, self.log_variance(h)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).flatten(1)


def losses(
    model: PlainVAE, trial: Trial, x: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Per image: reconstruction, objective; per image and unit: kl, mean, variance."""
    mean, log_variance = model.encode(x)
    variance = log_variance.exp()
    z = mean if trial.objective == "no_sampling" else mean + variance.sqrt() * noise
    reconstruction = nll(model, trial, model.decode(z), x.flatten(1))
    kl = 0.5 * (mean.square() + variance - variance.log() - 1)
    penalty = kl if trial.objective == "elbo" else 0.5 * mean.square()
    return reconstruction, reconstruction + trial.beta * penalty.sum(1), kl, mean, variance


def nll(model: PlainVAE, trial: Trial, out: Tensor, x: Tensor) -> Tensor:
    if trial.decoder == "bernoulli":
        log_p = x * nn.functional.logsigmoid(out) + (1 - x) * nn.functional.logsigmoid(-out)
    else:
        s = out.new_tensor(trial.decoder_variance) if model.log_s is None else model.log_s.exp()
        log_p = torch.distributions.Normal(out, s.sqrt()).log_prob(x)
    return -log_p.sum(1)


def train(trial: Trial, train_images: np.ndarray, test_images: np.ndarray, gain_images: int) -> Any:
    """Train one model; images are float64 (images, *shape). Returns losses and statistics."""
    dtype = torch.float32 if trial.precision == "float32" else torch.float64
    model = PlainVAE(trial, train_images.shape[1:]).to(dtype)
    data = torch.tensor(train_images).to(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.learning_rate)
    schedule = None
    steps = math.ceil(len(data) / trial.batch_size)
    if trial.learning_rate_schedule == "cosine":
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * trial.epochs)
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    curve = []
    for epoch in range(trial.epochs):
        order = torch.randperm(len(data), generator=generator("order", trial.data_seed, epoch))
        noise = torch.randn(
            len(data), trial.latent_dim, generator=generator("noise", trial.seed, epoch)
        )
        noise = noise.to(dtype)
        model.train()
        summed = 0.0
        for rows in torch.arange(len(data)).split(trial.batch_size):
            optimizer.zero_grad()
            _, objective, *_ = losses(model, trial, data[order[rows]], noise[rows])
            objective.mean().backward()
            optimizer.step()
            if schedule:
                schedule.step()
            summed += objective.detach().double().sum().item()
        curve.append(summed / len(data))
    model.eval()
    result: dict[str, Any] = {"initial": initial, "final": model.state_dict(), "curve": curve}
    for number, (split, images) in enumerate([("train", train_images), ("test", test_images)]):
        x = torch.tensor(images).to(dtype)
        noise = torch.randn(
            len(x), trial.latent_dim, generator=generator("evaluation", trial.seed, number)
        ).to(dtype)
        with torch.no_grad():
            result[split] = statistics(model, trial, x, noise, gain_images)
    return result


def statistics(
    model: PlainVAE, trial: Trial, x: Tensor, noise: Tensor, gain_images: int
) -> dict[str, Any]:
    reconstruction, objective, kl, mean, variance = losses(model, trial, x, noise)
    mu, var = mean.double().numpy(), variance.double().numpy()
    x, noise, mean, variance = (t[:gain_images] for t in (x, noise, mean, variance))
    z = mean if trial.objective == "no_sampling" else mean + variance.sqrt() * noise
    gain = []
    for unit in range(trial.latent_dim):
        zeroed = z.clone()
        zeroed[:, unit] = 0
        without = nll(model, trial, model.decode(zeroed), x.flatten(1))
        gain.append((without - nll(model, trial, model.decode(z), x.flatten(1))).double().mean())
    return {
        "reconstruction": reconstruction.double().mean().item(),
        "objective": objective.double().mean().item(),
        "mean": mu.mean(0),
        "mean_variance": mu.var(0),
        "posterior_variance": var.mean(0),
        "second_moment": (mu**2).mean(0),
        "kl": kl.double().mean(0).numpy(),
        "reconstruction_gain": np.array(gain),
    }
