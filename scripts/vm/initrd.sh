#!/bin/busybox sh
# First program of the guest: mounts the host's / over 9p below an overlay in memory, and goes on there.
# /settings was packed with this file; it says which program comes next.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys

give_up() {
    echo "tokenbridge-vm: $1"
    echo o >/proc/sysrq-trigger
    $b sleep 60
}

for module in $($b cat /modules); do
    $b insmod "/lib/$module" || echo "tokenbridge-vm: no module $module"
done
# cache=loose: the guest may keep what it has read; the host's files are taken not to change while it runs
$b mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose root /host || give_up "no 9p root"
$b mount -t tmpfs -o mode=755 tmpfs /memory
$b mkdir /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work,xino=off overlay /root ||
    give_up "no overlay"
for folder in dev proc sys; do
    $b mount --move "/$folder" "/root/$folder"
done
$b mount -t tmpfs -o mode=755 tmpfs /root/run
$b cp /settings /root/run/tokenbridge-vm
. /settings
exec $b switch_root /root /bin/sh "$GUEST"
