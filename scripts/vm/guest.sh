#!/bin/sh
# Process 1 of the guest, once / is there: mounts, udev, then the agent. When the agent ends, so does the machine.
. /run/tokenbridge-vm
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

mkdir -p /dev/pts /dev/shm /run/out /run/tmp /run/lock
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /run/tmp
mount -t 9p -o version=9p2000.L,trans=virtio,access=any,msize=512000 out /run/out
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
[ -e "/lib/modules/$VERSION" ] || { mkdir -p /lib/modules && ln -s "$MODULES" "/lib/modules/$VERSION"; }
hostname tokenbridge-vm
ip link set lo up 2>/dev/null || ifconfig lo up

# Only what a bench looks at is coldplugged: all of it would load modules for a quarter of a minute.
for udevd in /usr/lib/systemd/systemd-udevd /lib/systemd/systemd-udevd /usr/sbin/udevd; do
    [ -x "$udevd" ] || continue
    "$udevd" --daemon
    udevadm trigger --action=add --subsystem-match=misc --subsystem-match=hidraw --subsystem-match=usb
    break
done
setsid "$PYTHON" -I -S "$AGENT" </dev/null >/dev/console 2>&1
echo "tokenbridge-vm: the agent has ended ($?)" >/dev/console
sync
echo o >/proc/sysrq-trigger
sleep 60
