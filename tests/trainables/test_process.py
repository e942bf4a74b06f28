"""A process that is prepared for training, and one that is not, told apart by page faults."""

import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from trainables.process import prepare_process
{prepare}
def step():
    activations = [torch.ones(800_000) for _ in range(30)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(prepare: str) -> int:
    code = STEPS.format(prepare=prepare)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults of Linux")
def test_a_prepared_process_keeps_the_memory_it_freed() -> None:
    as_it_is = page_faults("torch.set_num_threads(1)")
    assert 4 * page_faults("prepare_process(threads=1)") < as_it_is


def test_a_prepared_process_multiplies_in_float32() -> None:
    """cuDNN by itself takes TF32 for convolutions, with and without a GPU."""
    code = (
        "import torch; from trainables.process import prepare_process; prepare_process(threads=1);"
        "print(torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["ieee", "ieee"]
