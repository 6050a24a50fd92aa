"""A virtual machine on this machine's own files, for what needs a kernel with /dev/uhid: virtual security keys.

    python -m scripts.vm run -- COMMAND...     boot, run, power off; exit code of COMMAND
    python -m scripts.vm up | exec | down      boot once, run many

`kernel` fetches Debian's kernel, `initrd` packs what mounts the host's / (read only, below an overlay in memory),
`machine` runs QEMU, `session` is the host's end of the line on which commands go to `agent`, the guest's end. Of what
the guest writes, the host gets what is in /run/out, and nothing else.
"""
