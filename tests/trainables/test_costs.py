"""What a lane costs, against PyTorch's own counter and a measured step."""

import math
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import NAMED, Architecture, Shape, TilesDataset, Trial
from trainables.architectures import build_network
from trainables.costs import LaneCost, lane_cost


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        (NAMED["paper-dense-mnist"], (1, 28, 28)),
        (NAMED["linear"], (9,)),
        (NAMED["paper-conv"], (1, 28, 28)),
        (Architecture.conv((4, 8, 8)), (3, 27, 30)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_flops_are_those_that_pytorch_counts(architecture: Architecture, shape: Shape) -> None:
    network = build_network(architecture, shape)
    lane = {p.name: torch.zeros(1, *p.shape) for p in network.parameters(5)}
    parameters = {name: tensor.requires_grad_() for name, tensor in lane.items()}
    state = {b.name: torch.zeros(1, *b.shape) for b in network.buffers()}
    with FlopCounterMode(display=False) as counter:
        images = torch.zeros(2, math.prod(shape))
        mean, log_variance = network.encode(parameters, images, state, training=True)
        output = network.decode(parameters, mean + log_variance, state, training=True)
        output.sum().backward()
    assert network.flops(5) == counter.get_total_flops() / 2


def test_costs_grow_with_what_they_count() -> None:
    def cost(**changes: Any) -> LaneCost:
        values: dict[str, Any] = {
            "dataset": TilesDataset(train_images=100, test_images=10),
            "architecture": NAMED["paper-dense-mnist"],
            "latent_dim": 16,
        }
        return lane_cost(Trial(**(values | changes)), (1, 28, 28), 1000)

    lane, wider = cost(), cost(latent_dim=32)
    # 784-256-32-24, two heads of 16, and back
    layers = [(784, 256), (256, 32), (32, 24), (24, 16), (24, 16)]
    layers += [(16, 24), (24, 32), (32, 256), (256, 784)]
    assert lane.parameters == sum(inputs * outputs + outputs for inputs, outputs in layers)
    assert wider.parameters > lane.parameters
    assert wider.flops_per_image > lane.flops_per_image
    assert wider.memory > lane.memory
    assert cost(precision="float64").memory > 1.9 * lane.memory
