import numpy as np
import pytest
import torch

from search_spaces import load_spec
from study.estimate import estimate_groups
from study.packing import PackQueue, trial_costs
from study.planning import plan_study
from trainables.datasets import ImageData, load_dataset

SPEC = {
    "study": "test",
    "dataset": {"name": "tiles", "train_images": 200, "test_images": 20},
    "axes": {
        "architecture": [{"family": "dense", "widths": [16]}, {"family": "conv", "channels": [4]}],
        "latent_dim": [2, 3, 4],
        "batch_size": [50, 300],
    },
    "training": {"epochs": 3},
}


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_groups_sum_up_to_the_plan() -> None:
    spec = load_spec(SPEC)
    planned = plan_study(spec)
    datasets = {dataset.label: load_dataset(dataset) for dataset in spec.dataset}
    costs = trial_costs(planned, datasets)
    queue = PackQueue(planned, costs, pack_size=2, workers=1, memory=10**9, gpu=False)
    groups = estimate_groups(queue, costs, datasets)
    assert len(queue) == 0
    assert len(groups) == 4  # two architectures, two batch sizes
    assert sum(group.trials for group in groups) == len(planned) == 12
    for group in groups:
        assert group.dataset == "tiles"
        assert (group.trials, group.packs, group.lanes) == (3, 2, 2)
        of_group = [
            costs[p.trial_id].memory
            for p in planned
            if p.trial.architecture.name == group.architecture
        ]
        assert 2 * min(of_group) <= group.memory <= 2 * max(of_group)
        assert 0 < group.seconds < 100
    assert {group.architecture for group in groups} == {"dense-16", "conv-4"}


def test_few_images_and_no_trials() -> None:
    spec = load_spec(SPEC | {"dataset": {"name": "tiles", "train_images": 3, "test_images": 1}})
    planned = plan_study(spec)
    pixels = np.zeros((3, 784), np.uint8)
    datasets = {"tiles": ImageData("tiles", (1, 28, 28), pixels, pixels[:1], None, None, "f")}
    costs = trial_costs(planned, datasets)
    options = {"pack_size": "auto", "workers": 1, "memory": 10**9, "gpu": False}
    queue = PackQueue(planned, costs, **options)  # type: ignore[arg-type]
    assert sum(group.trials for group in estimate_groups(queue, costs, datasets)) == 12
    assert estimate_groups(PackQueue([], {}, **options), {}, datasets) == []  # type: ignore[arg-type]
