"""VAEs in plain PyTorch, as a competent user would write them: what fused packs are held against.

`torch.nn` layers with their default initialisation, `torch.optim.Adam`, one model at a time. Pixels
are Bernoulli; the decoder gives logits.
"""

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

from search_spaces import Architecture

PIXELS = 784
EVALUATION_BATCH = 500


def plain_model(architecture: Architecture, latent_dim: int) -> tuple[nn.Module, nn.Module]:
    """The encoder (μ and log σ² side by side) and the decoder, for flattened 28x28 images."""
    if architecture.family == "dense":
        return _dense(architecture.widths, latent_dim)
    if architecture.name == "paper-conv":
        return _paper_conv(latent_dim)
    raise ValueError(f"no plain model of {architecture.name!r}")


def _dense(widths: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, nn.Module]:
    sizes = [PIXELS, *widths]
    encoder: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        encoder += [nn.Linear(before, after), nn.ReLU()]
    encoder += [nn.Linear(sizes[-1], 2 * latent_dim)]
    decoder: list[nn.Module] = []
    for before, after in itertools.pairwise([latent_dim, *reversed(widths)]):
        decoder += [nn.Linear(before, after), nn.ReLU()]
    decoder += [nn.Linear(widths[0], PIXELS)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _paper_conv(latent_dim: int) -> tuple[nn.Module, nn.Module]:
    """Figure 7 of the paper; the comments give the image's side after the line."""
    encoder = nn.Sequential(
        *(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 16, 3, 2, 1)),  # 14
        *(nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, 1, 1), nn.Conv2d(32, 32, 3, 2, 1)),  # 7
        *(nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, 1, 1)),  # 4
        *(nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 32, 2, 2), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(32, 32, 2)),  # 2
        *(nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 32, 2), nn.Flatten()),  # 1
        nn.Linear(32, 2 * latent_dim),
    )
    decoder = nn.Sequential(
        *(nn.Linear(latent_dim, 32), nn.Unflatten(1, (32, 1, 1))),  # 1
        *(nn.ConvTranspose2d(32, 32, 2), nn.BatchNorm2d(32), nn.ReLU()),  # 2
        *(nn.ConvTranspose2d(32, 32, 2), nn.ZeroPad2d((0, -1, 0, -1))),  # 2, cropped from 3
        *(nn.ConvTranspose2d(32, 32, 2, 2), nn.BatchNorm2d(32), nn.ReLU()),  # 4
        *(nn.ConvTranspose2d(32, 32, 3, 1, 1), nn.ConvTranspose2d(32, 32, 3, 2, 1)),  # 7
        *(nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 32, 3, 2, 1, 1), nn.ConvTranspose2d(32, 16, 3, 1, 1)),  # 14
        *(nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Flatten()),  # 28
    )
    return encoder, decoder


def memory_batches(images: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Minibatches of an epoch from uint8 images in memory, shuffled, pixels scaled to [0, 1]."""
    for rows in torch.randperm(len(images)).split(batch_size):
        yield images[rows].float().div_(255)


def loader_batches(images: Tensor, batch_size: int) -> Iterable[list[Tensor]]:
    """The same as tutorials do it: a `DataLoader`, to be made once, over all images as floats."""
    return DataLoader(TensorDataset(images.float() / 255), batch_size, shuffle=True, num_workers=0)


def plain_epoch(
    encoder: nn.Module,
    decoder: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Tensor | list[Tensor]],
    beta: float = 1.0,
) -> float:
    """Train one epoch.

    Args:
        encoder: As `plain_model` gives it.
        decoder: Likewise.
        optimizer: Of the parameters of both.
        batches: Minibatches (images, 784) of pixels in [0, 1], each bare or in a list.
        beta: Weight of the KL term.

    Returns:
        The ELBO at β = 1, nats per image, mean over the minibatches while the parameters move.
    """
    encoder.train()
    decoder.train()
    bound, images = torch.zeros(()), 0
    for batch in batches:
        x = batch if isinstance(batch, Tensor) else batch[0]
        mean, log_variance = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        loss = binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum()
        optimizer.zero_grad()
        ((loss + beta * kl) / len(x)).backward()
        optimizer.step()
        bound -= (loss + kl).detach()
        images += len(x)
    return bound.item() / images


@torch.no_grad()
def plain_statistics(
    encoder: nn.Module, decoder: nn.Module, images: Tensor, gain_images: int = 0
) -> dict[str, Tensor]:
    """What each unit does on all images of a split: `trainables.statistics` for one plain model.

    Args:
        encoder: As `plain_model` gives it.
        decoder: Likewise.
        images: uint8 images, (images, 784).
        gain_images: How many images, from the first, give the reconstruction gain; 0 for none.

    Returns:
        Scalars `reconstruction` and `elbo` (β = 1), nats per image, and per unit `mean`,
        `mean_variance`, `posterior_variance`, `second_moment`, `kl` and, where it was asked for,
        `reconstruction_gain`; variances are divided by the number of images.
    """
    encoder.eval()
    decoder.eval()
    means, log_variances, losses, gains = [], [], [], []
    gain_images = min(gain_images, len(images))
    for start in range(0, len(images), EVALUATION_BATCH):
        x = images[start : start + EVALUATION_BATCH].float().div_(255)
        mean, log_variance = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        loss = _loss(decoder, z, x)
        if start < gain_images:
            some = slice(gain_images - start)
            gains.append(_gain(decoder, z[some], x[some], loss[some]))
        means.append(mean)
        log_variances.append(log_variance)
        losses.append(loss)
    mean, log_variance = torch.cat(means), torch.cat(log_variances)
    variance = log_variance.exp()
    kl = 0.5 * (mean**2 + variance - log_variance - 1).mean(0)
    reconstruction = torch.cat(losses).mean()
    statistics = {
        "reconstruction": reconstruction,
        "elbo": -(reconstruction + kl.sum()),
        "mean": mean.mean(0),
        "mean_variance": mean.var(0, correction=0),
        "posterior_variance": variance.mean(0),
        "second_moment": (mean**2).mean(0),
        "kl": kl,
    }
    if gains:
        statistics["reconstruction_gain"] = torch.cat(gains).mean(0)
    return statistics


def _loss(decoder: nn.Module, z: Tensor, x: Tensor) -> Tensor:
    """-log p(x | z) of each image."""
    return binary_cross_entropy_with_logits(decoder(z), x, reduction="none").sum(1)


def _gain(decoder: nn.Module, z: Tensor, x: Tensor, loss: Tensor) -> Tensor:
    """The loss with one unit of z at zero minus the loss with all, (images, latent_dim)."""
    gains = []
    for unit in range(z.shape[1]):
        without = z.clone()
        without[:, unit] = 0
        gains.append(_loss(decoder, without, x) - loss)
    return torch.stack(gains, dim=1)
