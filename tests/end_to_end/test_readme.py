"""The README's Python runs as it stands there, block after block."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.slow
def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # where Tune keeps results
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    try:
        for block in blocks:
            exec(compile(block, str(README), "exec"), names)
    finally:
        ray.shutdown()  # the user's own
    assert tuple(names["images"].shape) == (10, 1, 28, 28)
    assert (tmp_path / "active_units.png").stat().st_size > 1000
    rows = names["rows"]
    assert set(rows.trials["status"]) == {"completed"}  # type: ignore[attr-defined]
    assert set(rows.units["trial_id"]) == set(rows.trials["trial_id"])  # type: ignore[attr-defined]


def test_yaml_blocks_are_specs(tmp_path: Path) -> None:
    from search_spaces import load_spec, plan_parts, plan_trials
    from study.adaptive.opening import adaptive_part, check_strategy, drawn_points

    one, parts, adaptive = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    file = tmp_path / "spec.yaml"
    file.write_text(one)
    spec = load_spec(file)
    assert len(plan_trials(spec)) == 6 * 6 * 5 * 2 * 3  # architectures, dims, betas, inits, seeds
    file.write_text(parts)
    for arguments, dense, conv in ((), 40, 15), (("scale=small",), 3, 1):
        planned = plan_parts(load_spec(file, arguments))
        assert {name: len(trials) for name, trials in planned.items()} == {
            "dense": 2,
            "conv-tiles": 1,
        }
        assert {trial.epochs for trial in planned["dense"]} == {dense}
        assert {trial.epochs for trial in planned["conv-tiles"]} == {conv}
    file.write_text(adaptive)
    part = adaptive_part(load_spec(file))
    assert part is not None
    check_strategy(part)
    assert len(drawn_points(part)) == 60 * 3


SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL))


@pytest.mark.parametrize("line", re.findall(r"^vae-study .*$", SHELL, re.MULTILINE))
def test_shell_lines_name_commands_and_options_that_exist(line: str) -> None:
    import click

    from study.commands.command_line import cli

    words = line.split("#")[0].split()[1:]
    command = cli.commands[words[0]]
    if isinstance(command, click.Group):
        command = command.commands[words[1]]
    options = {name for option in command.params for name in option.opts}
    used = {word for word in words if word.startswith("--")}
    assert isinstance(command, click.Command)
    assert used <= options
