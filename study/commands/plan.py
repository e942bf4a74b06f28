"""`vae-study plan`: what a spec would run, and what that would take, here or on GPUs."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from search_spaces import FULL, BadInput, OptunaStrategy, load_spec
from study.commands.options import data_option, spec_arguments, storage_option, wide_console
from study.progress import readable_seconds

if TYPE_CHECKING:
    from study.estimate import GroupEstimate
    from study.packing import TrialCost
    from study.run import PreparedStudy

__all__ = ["plan"]


@click.command()
@spec_arguments
@storage_option
@data_option
@click.option("--cpus", type=click.IntRange(1), help="CPUs to plan for [default: all].")
@click.option("--gpus", type=click.IntRange(1), help="Plan for so many GPUs of a cluster instead.")
@click.option(
    "--samples-per-second",
    type=click.FloatRange(0, min_open=True),
    help="With --gpus: images that one GPU trains per second, summed over a pack's trials "
    "[default: as measured].",
)
def plan(
    spec: str,
    overrides: tuple[str, ...],
    storage: str,
    data_dir: Path | None,
    cpus: int | None,
    gpus: int | None,
    samples_per_second: float | None,
) -> None:
    """Show what SPEC (a file or a preset) would run: trials, packs, memory, time.

    Nothing is started or written; the time comes from training a few minibatches of each shape.

    With --gpus, it is the makespan and the GPU hours on that many GPUs. How fast one is comes from
    trials that finished on GPUs in --storage, else from this machine's GPU, else from
    --samples-per-second.

    \b
    vae-study plan mnist-dense
    vae-study plan my_study.yaml --set training.epochs=5
    vae-study plan paper --set scale=small --part dense-mnist
    vae-study plan my_study.yaml --gpus 800
    vae-study plan my_study.yaml --gpus 800 --samples-per-second 2e6
    """
    from study.packing import trial_costs
    from study.run import prepare_study

    if gpus is None and samples_per_second is not None:
        raise BadInput("--samples-per-second: it says how fast a GPU is; give --gpus with it")
    if gpus is not None and cpus is not None:
        raise BadInput("--cpus: the plan is for a cluster's GPUs; give --cpus or --gpus")
    prepared = prepare_study(load_spec(spec, overrides), data_dir)
    costs = trial_costs(prepared.planned, prepared.datasets)
    console = wide_console()
    if gpus is None:
        _plan_here(console, prepared, costs, cpus or os.cpu_count() or 1)
    else:
        _plan_on_gpus(console, prepared, costs, gpus, storage, samples_per_second)


def _plan_here(
    console: Console, prepared: "PreparedStudy", costs: "dict[str, TrialCost]", cpus: int
) -> None:
    from study.estimate import estimate_groups
    from study.packing import PackQueue
    from study.run import check_cpus

    resources = prepared.spec.resources
    check_cpus(resources, cpus)
    workers = cpus // resources.cpus_per_pack
    if resources.max_packs != "auto":
        workers = min(workers, resources.max_packs)
    queue = PackQueue(
        prepared.planned,
        costs,
        pack_size=resources.pack_size,
        workers=workers,
        memory=_memory() // workers,
        gpu=False,
    )
    groups = estimate_groups(queue, costs, prepared.datasets, resources.cpus_per_pack)
    table = Table(title=_title(prepared), title_justify="left")
    for heading in ("dataset", "architecture"):
        table.add_column(heading, no_wrap=True)
    for heading in ("trials", "packs", "lanes", "memory", "CPU time"):
        table.add_column(heading, justify="right")
    for group in groups:
        table.add_row(
            group.dataset,
            group.architecture,
            str(group.trials),
            str(group.packs),
            str(group.lanes),
            _mebibytes(group.memory),
            readable_seconds(group.seconds),
        )
    console.print(table)
    if prepared.spec.parts is not None:
        console.print(_parts_table(prepared, groups))
    total = sum(group.seconds for group in groups)
    at_work = resources.cpus_per_pack * min(workers, sum(g.packs for g in groups))
    console.print(
        f"about {readable_seconds(total / at_work)} on {at_work} "
        f"{'CPU' if at_work == 1 else 'CPUs'} of this machine, evaluation and start-up apart "
        f"({total / 3600:.2f} core hours)",
        highlight=False,
    )
    _print_probes(console, prepared)


def _parts_table(prepared: "PreparedStudy", groups: "Sequence[GroupEstimate]") -> Table:
    """What each part takes; a point that two parts have counts to the first."""
    trials = Counter(planned.part for planned in prepared.planned)
    table = Table("part")
    for heading in ("trials", "CPU time"):
        table.add_column(heading, justify="right")
    for part in prepared.spec.all_parts:
        seconds = sum(group.seconds * group.parts.get(part, 0) for group in groups)
        table.add_row(part, f"{trials[part]:,}", readable_seconds(seconds))
    return table


def _plan_on_gpus(
    console: Console,
    prepared: "PreparedStudy",
    costs: "dict[str, TrialCost]",
    gpus: int,
    storage: str,
    samples_per_second: float | None,
) -> None:
    from study.estimate import START_SECONDS, estimate_on_gpus
    from study.storage import Folder
    from study.throughput import find_throughput

    planned, datasets = prepared.planned, prepared.datasets
    speed = find_throughput(Folder.at(storage), planned, datasets, samples_per_second)
    found = estimate_on_gpus(planned, costs, datasets, prepared.spec.resources, gpus, speed)
    table = Table(title=_title(prepared), title_justify="left", show_header=False)
    for name, value in (
        ("GPUs", f"{gpus:,}"),
        ("packs", f"{found.packs:,}, {found.workers:,} at a time"),
        (
            "largest pack",
            f"{found.lanes:,} trial{'' if found.lanes == 1 else 's'}, {_mebibytes(found.memory)}",
        ),
        ("makespan", readable_seconds(found.makespan)),
        ("GPU hours", f"{found.gpu_hours:,.1f}, if a GPU is given back when it has no more work"),
        ("idle GPU hours", f"{found.idle_gpu_hours:,.1f} more, if all are kept to the end"),
    ):
        table.add_row(name, value)
    console.print(table)
    console.print(f"speed: {speed.basis}", highlight=False)
    console.print(
        f"counted in: {START_SECONDS:.0f} s until a worker trains; not counted: starting nodes",
        highlight=False,
    )
    _print_probes(console, prepared)


def _print_probes(console: Console, prepared: "PreparedStudy") -> None:
    """Say what probes are taken to add, since none knows beforehand when its unit is given up."""
    from trainables.deterioration import expected_epochs

    probes = [p.record.probe for p in prepared.planned if p.record.probe]
    if not probes:
        return
    epochs = sorted({expected_epochs(probe) for probe in probes})
    console.print(
        f"trials that go on through a probe: {len(probes):,}, counted with "
        f"{' or '.join(map(str, epochs))} epochs more; it ends when their units say so",
        highlight=False,
    )


def _title(prepared: "PreparedStudy") -> str:
    spec = prepared.spec
    scale = "" if spec.scale == FULL else f", scale {spec.scale!r}"
    strategy = spec.strategy
    chosen = ""
    if isinstance(strategy, OptunaStrategy):
        pruner = f", pruned by {strategy.pruner.name}" if strategy.pruner else ""
        chosen = (
            f" at most, chosen by Optuna ({strategy.sampler.name}){pruner}; here drawn at random"
        )
    return f"{spec.study}: {len(prepared.planned):,} trials{chosen}{scale}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _memory() -> int:
    return int(0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
