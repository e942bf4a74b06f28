"""What a machine must have for a lab of simulated hosts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.lab import NAMESPACES

TOOLS = ("bash", "ip", "nsenter", "rsync", "setpriv", "ssh", "ssh-keygen", "timeout", "unshare")
SSHD = Path("/usr/sbin/sshd")
MEMORY_GB = 4  # three hosts with Ray and small jobs take about 2.5


def why_not() -> str | None:
    """Return the reason why no lab can run on this machine, or None if one can.

    Mounts and network devices are tried out for real, in namespaces that are gone afterwards.
    """
    if sys.platform != "linux":
        return "simulated hosts need Linux"
    if os.geteuid() != 0:
        return "simulated hosts need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not SSHD.exists():
        missing.append(str(SSHD))
    if missing:
        return f"simulated hosts need {', '.join(missing)}"
    available = re.findall(r"MemAvailable: +([0-9]+) kB", Path("/proc/meminfo").read_text())
    if int(available[0]) < MEMORY_GB * 2**20:
        return f"simulated hosts need {MEMORY_GB} GB of free memory"
    trial = (
        "mount -t tmpfs tmpfs /run && mkdir /run/disk /run/work /run/root /run/netns && "
        "mount -t overlay overlay -o lowerdir=/,upperdir=/run/disk,workdir=/run/work /run/root && "
        "ip link add lab0 type bridge && ip netns add a && "
        "ip link add va type veth peer name eth0 netns a && ip netns exec a unshare -p -m -f true"
    )
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "bash", "-c", trial], capture_output=True, text=True
    )
    if tried.returncode != 0:
        return f"no namespaces for simulated hosts: {tried.stderr.strip()}"
    return None
