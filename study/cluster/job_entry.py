"""What a submitted job runs on the cluster: `python -m study.cluster.job_entry`.

It compares the cluster's versions with those of the machine that submitted it, and then is the
command line. At the top it imports the standard library only, so that the message comes out
whatever the cluster has.
"""

import json
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["AGREED", "MANIFEST_FILE", "cluster_versions", "difference", "main"]

MANIFEST_FILE = "shipment.json"
AGREED = "the cluster has the versions of the machine that submitted this:"
"""Printed once the versions have been compared: the job has begun in earnest."""

COMPARED = ("python", "ray", "torch")


def main() -> None:
    """Refuse other versions (exit code 2), put shipped data in place, run the shipped command."""
    shipped = Path(__file__).resolve().parents[2]
    manifest = json.loads((shipped / MANIFEST_FILE).read_text())
    here = cluster_versions()
    refusal = difference(manifest["versions"], here)
    if refusal:
        print("vae-study:", refusal, file=sys.stderr, flush=True)
        sys.exit(2)
    versions = ", ".join(f"{name} {here[name]}" for name in COMPARED)
    print("vae-study:", AGREED, versions, flush=True)
    for source, target in manifest["files"].items():
        _put_in_place(shipped / source, Path(target).expanduser())
    sys.argv = ["vae-study", *manifest["command"]]
    from study.commands.command_line import main as command_line

    command_line()


def cluster_versions() -> dict[str, str]:
    """Return the versions that decide whether shipped code runs here as where it comes from."""
    here = {"python": "{}.{}".format(*sys.version_info[:2])}
    for name in ("ray", "torch", "pyarrow"):
        try:
            here[name] = version(name)
        except PackageNotFoundError:
            here[name] = "none"
    return here


def difference(submitted: dict[str, str], here: dict[str, str]) -> str:
    """Return what to tell the user if versions differ, else the empty string.

    A build's suffix (+cpu, +cu128) is no difference: a laptop may submit to GPUs.
    """
    differing = [
        name for name in COMPARED if submitted[name].split("+")[0] != here[name].split("+")[0]
    ]
    if not differing:
        return ""
    theirs = " and ".join(f"{name} {here[name]}" for name in differing)
    ours = " and ".join(f"{name} {submitted[name]}" for name in differing)
    return (
        f"the cluster ({sys.executable}) has {theirs}, and this job was submitted with {ours}; "
        "install the same versions on the cluster, or submit from an environment that has the "
        "cluster's"
    )


def _put_in_place(source: Path, target: Path) -> None:
    """Copy a shipped file to where the spec has it; its folder is named after its content."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


if __name__ == "__main__":
    main()
