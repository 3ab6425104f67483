"""Debian's own kernels in qemu: what each can do, and the tests on each.

`make kernels` fetches the kernels of three Debian releases, boots each with a Debian root and
this checkout in its initrd, runs the demo and the tests there, and writes docs/kernels.md.

archive.py    which kernels Debian has today; fetches and unpacks them
initrd.py     Debian root + checkout + modules in one archive: no disk, no network card
guest.py      qemu, and commands that run in it (agent.py and init are its other half)
features.py   asks the kernel that it runs on what it can do
selection.py  which tests run
outcomes.py   a pytest plugin: one line of JSON for each test
runner.py     what runs on one kernel
results.py    what a kernel said and how its tests went; docs/kernels.md

The guest's clock counts instructions (-icount): it sees a steady machine of 1 GHz with one
processor, however busy the host is, and idle time takes no wall time.  Without it no time limit
of a test means anything.
"""
