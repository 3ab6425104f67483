"""A whole Debian with the real systemd as PID 1, and what only such a machine shows.

    from tests.booted import Booted, Providers

    with Providers() as providers, Booted(providers.plug_in) as machine:
        machine.write("/etc/network/interfaces", "auto eth1\\niface eth1 inet dhcp\\n")
        machine.run("ifup eth1")
        machine.reboot()                        # a power cycle: the disk stays, the kernel does not
        assert machine.unit_state("networking") == "active"
        machine.network.ip("rule show")         # its network, as a node of tests/lab
        assert "bound to" in machine.journal()

`make booted` runs these on Debian 12, `make booted DEBIAN=13` on Debian 13; `make test` leaves them
out without `--booted`.  The system is made once by packaging/root.sh; each machine writes
to a throw-away layer in memory.
"""

from tests.booted.providers import Providers
from tests.booted.system import PACKAGES, Booted

__all__ = ["PACKAGES", "Booted", "Providers"]
