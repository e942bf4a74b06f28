#!/usr/bin/env bash
# What happens inside the lab's namespaces. lab.py starts this; nothing here is for typing by hand.
#
#   lab.sh lab                      the lab itself: a bridge, the launcher's file system, then wait
#   lab.sh host NAME ADDRESS        one host: its file system, then sshd as its first process
#
# From lab.py come LAB_KEY (public SSH key), LAB_VISIBLE (folders that must look the same everywhere),
# LAB_FOLDER (exchange folder of the launcher) and LAB_SHARED (where hosts see the shared folder).
set -euo pipefail
lab=/run/lab # on a tmpfs of the lab: gone when its last process is

# An overlay on this machine's root: everything installed here is there, nothing written stays.
# $1: name. The written files are kept until the lab ends, so they survive a power cut.
make_root() {
  local root=$lab/$1/root disk=$lab/$1/disk path new=
  [ -d "$disk" ] || new=yes
  mkdir -p "$root" "$disk" "$lab/$1/work"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$disk,workdir=$lab/$1/work" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o size=1g tmpfs "$root/dev/shm"
  mount -t tmpfs -o size=2g tmpfs "$root/tmp"
  mount -t tmpfs tmpfs "$root/run"
  chmod 1777 "$root/tmp" "$root/dev/shm"
  while read -r path; do
    [ -n "$path" ] || continue
    mkdir -p "$root$path"
    mount --bind "$path" "$root$path"
    mount -o remount,bind,ro "$root$path"
  done <<<"$LAB_VISIBLE"
  [ -z "$new" ] || install_machine "$root"
}

# What an administrator leaves on a fresh machine: an account that the launcher's key opens, and an
# empty home, so that nothing of this machine's user is in the lab.
install_machine() {
  local home=$1/home/lab
  install -d -m 700 "$home" "$home/.ssh"
  echo "$LAB_KEY" >"$home/.ssh/authorized_keys"
  echo 'export RAY_USAGE_STATS_ENABLED=0' >"$home/.bashrc"
  echo '. ~/.bashrc' >"$home/.profile"
  echo '127.0.0.1 localhost' >"$1/etc/hosts"
  sed -i 's|^root:.*|root:x:0:0:root:/home/lab:/bin/bash|' "$1/etc/passwd"
  sed -i 's/^root:[^:]*/root:*/' "$1/etc/shadow" # sshd refuses locked accounts
  ssh-keygen -q -t ed25519 -N '' -f "$1/etc/lab_host_key"
}

start_lab() {
  local outer_pid
  # /proc is still the outer one: this is the process id by which the outside can enter.
  read -r outer_pid _ </proc/self/stat
  mount -t proc proc /proc
  mount -t tmpfs tmpfs /run
  mkdir -p $lab/shared /run/netns
  ip link set lo up
  ip link add lab0 type bridge
  ip address add 10.98.0.1/24 dev lab0
  ip link set lab0 up
  hostname launcher
  make_root launcher
  mkdir -p "$lab/launcher/root$LAB_FOLDER"
  mount --bind "$LAB_FOLDER" "$lab/launcher/root$LAB_FOLDER"
  echo "$outer_pid"
  cat >/dev/null # until lab.py closes the pipe, in whatever way it ends
}

start_host() {
  local root=$lab/$1/root
  hostname "$1"
  make_root "$1"
  echo "$2 $1" >>"$root/etc/hosts"
  mkdir -p "$root$LAB_SHARED" "$root/run/sshd"
  mount --bind $lab/shared "$root$LAB_SHARED"
  exec chroot "$root" /usr/sbin/sshd -D -e -f /dev/null -h /etc/lab_host_key \
    -o PermitRootLogin=prohibit-password -o UsePAM=no -o StrictModes=no -o UseDNS=no \
    -o MaxStartups=50 -o MaxSessions=50 -o PidFile=none
}

"start_$1" "${@:2}"
