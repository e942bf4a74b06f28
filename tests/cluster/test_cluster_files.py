"""The cluster files, as Ray and AWS read them. What they do once started: test_lab.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import boto3
import pytest
import ray
import ray.autoscaler
import yaml
from jsonschema import Draft7Validator
from moto import mock_aws
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ray.autoscaler._private.aws import utils as aws_utils
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.util.accelerators import accelerators

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
ACCOUNT = ROOT / "cluster-aws-account.yaml"
AWS = ROOT / "cluster.yaml"
ON_PREMISES = ROOT / "cluster-onprem.yaml"
FILES = [pytest.param(AWS, id="aws"), pytest.param(ON_PREMISES, id="onprem")]

HEALTH = {
    "RAY_health_check_initial_delay_ms": "3000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}


def load(file: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    return config


def start_of(config: dict[str, Any], kind: str) -> str:
    """The one command of head or worker that starts Ray."""
    commands: list[str] = config[f"{kind}_start_ray_commands"]
    (command,) = [command for command in commands if "ray start" in command]
    return command


def ray_start(config: dict[str, Any], kind: str) -> tuple[dict[str, str], list[str]]:
    """What bash really passes to `ray start`: its environment and its arguments."""
    script = (
        "ray() { env -0 | tr '\\0' '\\n'; echo ARGUMENTS; printf '%s\\n' \"$@\"; }; "
        "ulimit() { :; }; install() { :; }; HOME=/home/someone RAY_HEAD_IP=198.51.100.1; "
        + start_of(config, kind)
    )
    printed = subprocess.run(
        ["bash", "-ec", script], capture_output=True, text=True, check=True, env=os.environ
    ).stdout
    environment, arguments = printed.split("ARGUMENTS\n")
    pairs = (line.partition("=") for line in environment.splitlines())
    return {name: value for name, _, value in pairs}, arguments.splitlines()


@pytest.mark.parametrize("file", FILES)
def test_the_file_follows_rays_schema(file: Path) -> None:
    config = load(file)
    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    assert not list(Draft7Validator(json.loads(schema.read_text())).iter_errors(config))
    validate_config(prepare_config(config))


@pytest.mark.parametrize("file", FILES)
def test_the_place_of_results_is_set_once(file: Path) -> None:
    storage = load(file)["metadata"]["vae_study"]["storage"]
    assert re.sub(r"#.*", "", file.read_text()).count(storage) == 1


@pytest.mark.parametrize("file", FILES)
def test_a_newcomer_changes_five_lines(file: Path) -> None:
    assert re.findall(r"[^ ].* # ([0-9])\b", file.read_text()) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("kind", ["head", "worker"])
@pytest.mark.parametrize("file", FILES)
def test_every_node_asks_for_the_token_and_watches_its_health(file: Path, kind: str) -> None:
    environment, _ = ray_start(load(file), kind)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert {name: environment.get(name) for name in HEALTH} == HEALTH


@pytest.mark.parametrize("file", FILES)
def test_the_token_comes_from_the_laptop_and_is_not_in_the_file(file: Path) -> None:
    assert load(file)["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "RAY_AUTH_TOKEN" not in file.read_text()


@pytest.mark.parametrize("file", FILES)
def test_the_dashboard_listens_on_localhost_and_the_head_runs_no_packs(file: Path) -> None:
    _, arguments = ray_start(load(file), "head")
    assert {"--head", "--dashboard-host=127.0.0.1", "--num-cpus=0", "--num-gpus=0"} <= {*arguments}


@pytest.mark.parametrize("file", FILES)
def test_a_stopped_driver_has_a_minute(file: Path) -> None:
    assert ray_start(load(file), "head")[0]["RAY_JOB_STOP_WAIT_TIME_S"] == "60"


@pytest.mark.parametrize("file", FILES)
def test_workers_find_the_head(file: Path) -> None:
    assert "--address=198.51.100.1:6379" in ray_start(load(file), "worker")[1]
    assert "--port=6379" in ray_start(load(file), "head")[1]


def test_hosts_of_your_own_use_the_autoscaler_that_brings_them_back() -> None:
    environment, _ = ray_start(load(ON_PREMISES), "head")
    assert environment["RAY_enable_autoscaler_v2"] == "0"
    assert int(environment["AUTOSCALER_NODE_START_WAIT_S"]) > 30 * 24 * 3600


def test_a_failed_start_on_a_host_of_your_own_does_not_count_as_one() -> None:
    for command in load(ON_PREMISES)["worker_start_ray_commands"]:
        script = "ray() { return 1; }; ulimit() { :; }; install() { return 1; }; " + command
        subprocess.run(["bash", "-c", script], check=True)


@pytest.mark.parametrize("file", FILES)
def test_head_and_workers_get_the_same_versions(file: Path) -> None:
    config = load(file)
    assert config["file_mounts"]["~/vae-study/constraints.txt"] == "./constraints.txt"
    assert config["file_mounts"]["~/vae-study/pyproject.toml"] == "./pyproject.toml"
    # On AWS each machine installs for itself; on premises all use what the head has installed.
    key = "setup_commands" if file == AWS else "head_setup_commands"
    setup = "\n".join(config[key])
    assert re.search(r"astral\.sh/uv/[0-9]+\.[0-9]+\.[0-9]+/install\.sh", setup)
    assert "-r ~/vae-study/pyproject.toml -c ~/vae-study/constraints.txt" in setup
    assert "ray[default,tune]" in setup
    assert not re.search(r"(==|>=)", setup), "a version that constraints.txt does not know"
    (python,) = re.findall(r"--python ([0-9.]+) ", setup)
    assert python.count(".") == 2  # Ray compares all three numbers
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert python in SpecifierSet(project["requires-python"])
    folder = "~/vae-study/env" if file == AWS else "/mnt/vae-study/env"
    assert f" {folder} &&" in setup
    assert f"{folder}/bin/python" in setup


def test_hosts_of_your_own_run_what_the_head_installed() -> None:
    config = load(ON_PREMISES)
    for kind in ("head", "worker"):
        for command in config[f"{kind}_start_ray_commands"]:
            assert "ray st" not in command or "PATH=/mnt/vae-study/env/bin:$PATH" in command


def test_constraints_pin_all_that_a_node_installs() -> None:
    pins = dict(line.split("==") for line in CONSTRAINTS.split() if "==" in line)
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo = [Requirement(r) for r in (*project["dependencies"], "ray[default,tune]", "boto3")]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        if name == "setuptools":  # comes with the environment, and nothing here builds with it
            continue
        assert pinned.get(name) == metadata.version(name).partition("+")[0], name
        for line in metadata.requires(name) or ():
            needed = Requirement(line)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                todo.append(needed)
    assert {"ray", "torch", "boto3", "aiohttp"} <= {name for name, _ in seen}


def test_aws_scales_gpu_machines_from_zero_on_spot() -> None:
    config = load(AWS)
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert len(types) >= 2
    assert config["provider"]["cache_stopped_nodes"] is False  # stopped ones would keep a disk
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert worker["node_config"]["ImageId"] == head["node_config"]["ImageId"]
        assert worker["resources"]["GPU"] >= 1
        (label,) = [name for name in worker["resources"] if name.startswith("accelerator_type:")]
        assert label.partition(":")[2] in vars(accelerators).values()


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """An AWS account on which cluster-aws-account.yaml was deployed; the config as Ray fills it."""
    config = load(AWS)
    region = config["provider"]["region"]
    with pytest.MonkeyPatch.context() as patch, ExitStack() as simulated:
        # One store per process: a server that other tests have started must keep its bucket.
        simulation = mock_aws()
        simulation.start(reset=False)
        simulated.callback(simulation.stop, remove_data=False)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray makes a key pair there
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        boto3.client("cloudformation", region_name=region).create_stack(
            StackName="vae-study",
            TemplateBody=ACCOUNT.read_text(),
            Parameters=[{"ParameterKey": "Bucket", "ParameterValue": "somebodys-studies"}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        for cache in (aws_utils.resource_cache, aws_utils.client_cache):
            cache.cache_clear()
        yield _bootstrap_config(config, no_config_cache=True)


def test_aws_opens_no_port_but_ssh(account: dict[str, Any]) -> None:
    ec2 = boto3.resource("ec2", region_name=account["provider"]["region"])
    for node_type in account["available_node_types"].values():
        (group,) = node_type["node_config"]["SecurityGroupIds"]
        opened = [
            (rule.get("FromPort"), rule.get("ToPort"))
            for rule in ec2.SecurityGroup(group).ip_permissions
            if rule["IpRanges"] or rule["Ipv6Ranges"] or rule["PrefixListIds"]
        ]
        assert opened == [(22, 22)]


def test_aws_starts_instances_with_these_settings(account: dict[str, Any]) -> None:
    provider = AWSNodeProvider(account["provider"], account["cluster_name"])
    for name, node_type in account["available_node_types"].items():
        created = provider.create_node(node_type["node_config"], {"ray-node-name": name}, 1)
        (instance,) = created.values()
        role = instance.iam_instance_profile["Arn"].rpartition("/")[2]
        assert role == ("vae-study-head" if name == "head" else "vae-study-worker")
        assert {"Key": "ray-cluster-name", "Value": "vae-study"} in instance.tags


def test_instances_reach_the_bucket_and_only_the_head_starts_others(
    account: dict[str, Any],
) -> None:
    iam = boto3.client("iam")
    assert boto3.client("s3").head_bucket(Bucket="somebodys-studies")
    bucket = yaml.safe_load(ACCOUNT.read_text())["Resources"]["Studies"]
    blocked = bucket["Properties"]["PublicAccessBlockConfiguration"]  # moto leaves it out
    assert list(blocked.values()) == [True] * 4
    for kind in ("head", "worker"):
        profile = iam.get_instance_profile(InstanceProfileName=f"vae-study-{kind}")
        (role,) = [role["RoleName"] for role in profile["InstanceProfile"]["Roles"]]
        (policy,) = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        version = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId="v1")
        for statement in version["PolicyVersion"]["Document"]["Statement"]:
            assert statement["Resource"].startswith("arn:aws:s3:::somebodys-studies")
        inline = iam.list_role_policies(RoleName=role)["PolicyNames"]
        assert inline == (["start-and-end-workers"] if kind == "head" else [])
