"""Who has no token, or a wrong one, can neither send a study to a cluster nor see one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.command import environment, vae_study, write_spec
from tests.end_to_end.ray_head import TOKEN, RayHead, ray_head

SPEC = {
    "study": "stranger",
    "dataset": {"name": "tiles", "train_images": 300, "test_images": 100},
    "axes": {"architecture": "linear", "latent_dim": [2, 4]},
    "training": {"epochs": 1},
}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    with ray_head(tmp_path_factory.mktemp("head")) as running:
        yield running


COMMANDS = [
    ("submit", "spec.yaml", "--storage", "/tmp/never"),
    ("resume", "small", "--storage", "/tmp/never"),
    ("status", "small"),
    ("logs", "small"),
    ("stop", "small"),
    ("list",),
]


@pytest.mark.parametrize("token", [None, "b" * 32])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_without_the_token_nothing_can_be_done(
    command: tuple[str, ...], token: str | None, head: RayHead, tmp_path: Path
) -> None:
    write_spec(tmp_path, SPEC)
    env = environment(HOME=str(tmp_path / "home"))
    if token:
        env["RAY_AUTH_TOKEN"] = token
    ran = vae_study(tmp_path, *command, "--address", head.address, env=env, timeout=60)
    assert ran.returncode == 2
    assert ran.stdout == ""
    [message] = [line for line in ran.stderr.splitlines() if "trials" not in line]
    assert message.startswith(f"vae-study: token: the cluster {head.address} ")
    assert ("refuses" if token else "wants one") in message
    assert "~/.ray/auth_token" in message
    assert (token or TOKEN) not in ran.stderr
    if command[0] == "submit":
        assert (
            "stranger"
            not in vae_study(
                tmp_path, "list", "--address", head.address, env=head.environment()
            ).stdout
        )


@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_the_token_in_the_environment(mode: str, head: RayHead, tmp_path: Path) -> None:
    """Whatever RAY_AUTH_MODE says here, the cluster decides."""
    env = environment(HOME=str(tmp_path), RAY_AUTH_TOKEN=TOKEN, RAY_AUTH_MODE=mode)
    env["RAY_API_SERVER_ADDRESS"] = head.address
    env["RAY_ADDRESS"] = "10.255.255.1:6379"  # of another cluster; not for jobs
    ran = vae_study(tmp_path, "logs", "nothing-yet", env=env, timeout=60)
    assert ran.returncode == 2
    assert "'nothing-yet' has no job on this cluster" in ran.stderr
