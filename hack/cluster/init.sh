#!/bin/sh
# The first process of a place: gives it directories of its own, then becomes the reaper of its processes.
# usage: init.sh NAME KIND DIRECTORY REAPER      KIND: node, or anything else
set -e
name=$1 kind=$2 directory=$3 reaper=$4
hostname "$name"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
mount -t tmpfs -o mode=1777 tmpfs /tmp
if [ "$kind" = node ]; then
  # Overlays give the mount points, so that none is made on the machine.
  for path in /etc /var/lib; do
    mkdir -p "$directory/upper$path" "$directory/work$path"
    mount -t overlay overlay -o "lowerdir=$path,upperdir=$directory/upper$path,workdir=$directory/work$path" "$path"
  done
  for path in /var/lib/containerd /var/lib/kubelet /var/lib/cni /var/lib/volumes /var/log /etc/cni /etc/containerd; do
    mkdir -p "$directory/fs$path" "$path"
    mount --bind "$directory/fs$path" "$path"
  done
  mount --make-rshared /
fi
printf 'nameserver 10.77.0.5\n' >/run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf
ip link set lo up
exec "$reaper"
