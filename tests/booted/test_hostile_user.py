"""The service's user has been taken over: how far does that lead, beside root's hooks and commands?

Each attack ran on a booted Debian before it was repelled.  The attacker is the user mproutd.
"""

from __future__ import annotations

import pytest

from tests.booted import Booted, Providers
from tests.lab import TWO_UPLINKS, eventually

pytestmark = pytest.mark.booted

INTERFACES = """\
auto lo
iface lo inet loopback
iface eth1 inet static
	address 10.1.1.9/24
	gateway 10.1.1.1
iface eth2 inet dhcp
"""
AS_SERVICE = "setpriv --reuid mproutd --regid mproutd --clear-groups --inh-caps=-all sh -c "
SWAP = """\
cd /run/mproutd
while :; do
	rm -f control.sock wake
	ln -s /root/secret control.sock
	ln -s /root/secret wake
done
"""
"""Whatever root opens or changes by these names leads to a file of root's."""
OLD_LAYOUT = """\
install -d -o mproutd -g mproutd /run/mproutd
install -d /run/mproutd/hints
printf 'gateway=10.2.2.1\\nreason=BOUND\\n$(id)\\n' >/run/mproutd/hints/eth2:4
mkfifo /run/mproutd/hints/eth3:4
ln -s /etc/shadow /run/mproutd/hints/eth4:4
mkfifo /run/mproutd/wake
"""
"""As an earlier version left it, and what its user has added since."""


@pytest.fixture(scope="module")
def machine(package):
    with Providers() as providers, Booted(providers.plug_in) as made:
        made.install(package)
        made.write("/etc/network/interfaces", INTERFACES)
        made.write("/etc/mproutd/network", TWO_UPLINKS)
        made.run("install -m 600 /dev/null /root/secret && echo secret >/root/secret")
        made.run("systemctl start mproutd")
        yield made
        assert secret(made) == "root:root 600 secret"


def secret(machine: Booted) -> str:
    output = machine.run("stat -c '%U:%G %a' /root/secret; cat /root/secret")
    return " ".join(output.split())


def attack(machine: Booted, script: str) -> None:
    """In the background, until the unit `attack` is stopped."""
    machine.write("/usr/local/bin/attack", "#!/bin/sh\n" + script)
    machine.run("systemd-run --quiet --collect --unit=attack --uid=mproutd /usr/local/bin/attack")


def end_attack(machine: Booted) -> None:
    machine.run("systemctl stop attack; systemctl reset-failed attack", check=False)


def test_hooks_write_nowhere_but_into_a_directory_of_roots(machine):
    owner = machine.run("stat -c '%U:%G %a' /run/mproutd-hints").strip()
    assert owner == "root:root 755"
    machine.run(
        f"{AS_SERVICE} '! mv /run/mproutd-hints /run/mproutd/x && ! touch /run/mproutd-hints/x'"
    )
    # The folder of the past, and names in it: links to what is root's, and a FIFO that is full.
    machine.run(
        f"""{AS_SERVICE} '
        cd /run/mproutd; rm -rf hints wake; ln -s /root hints; mkfifo wake
        (exec 3<>wake; dd if=/dev/zero bs=65536 count=1 >&3; sleep 600) >/dev/null 2>&1 &'"""
    )
    for command in ("ifup eth1", "ifup eth2", "ifdown eth1", "ifup eth1"):
        machine.run(command, timeout=60)
    assert machine.run("ls -A /root").split() == sorted(
        {"mproutd.deb", "secret", *machine.run("ls -A /root").split()} - {"eth1:4", "eth2:4"}
    )
    assert machine.run("ls /run/mproutd-hints").split() == ["eth1:4", "eth2:4"]
    text = "2 of 2 uplinks usable: wan1 wan2"
    eventually(lambda: machine.unit_state("mproutd", "StatusText") == text, 20)
    machine.run("pkill -u mproutd sleep", check=False)


def test_a_daemon_of_roots_changes_no_file_but_its_own(machine):
    machine.run("systemctl stop mproutd")
    attack(machine, SWAP)
    try:
        for _ in range(10):
            machine.call("timeout --signal=TERM 2 mproutd run", timeout=30)
            assert secret(machine) == "root:root 600 secret"
    finally:
        end_attack(machine)
    # Once root's daemon runs, nobody else can put anything in the place of its files.
    machine.run("rm -f /run/mproutd/control.sock /run/mproutd/wake")
    machine.run("systemd-run --quiet --collect --unit=roots mproutd run")
    try:
        eventually(lambda: machine.call("mproutd status").returncode in (0, 1), 20)
        assert machine.run("stat -c '%U:%G %a' /run/mproutd/control.sock").strip() == (
            "root:mproutd 660"
        )
        machine.run(f"{AS_SERVICE} '! mv /run/mproutd/control.sock /run/mproutd/x'")
    finally:
        machine.run("systemctl stop roots")
    machine.run("systemctl start mproutd && mproutd status | grep wan1")
    assert machine.run("stat -c %U /run/mproutd /run/mproutd/*").split() == ["mproutd"] * len(
        machine.run("ls -d /run/mproutd /run/mproutd/*").split()
    )


def test_hints_of_an_earlier_version_are_taken_over_and_nothing_else_is(machine):
    machine.run("systemctl stop mproutd; ifdown eth1 eth2; rm -rf /run/mproutd /run/mproutd-hints")
    machine.run(OLD_LAYOUT)
    machine.run("timeout 60 dpkg-reconfigure mproutd", timeout=90)
    assert machine.run("cat /run/mproutd-hints/*") == "gateway=10.2.2.1\nreason=BOUND\n"
    assert machine.run("ls /run/mproutd-hints").split() == ["eth2:4"]
    assert "hints" not in machine.run("ls /run/mproutd")
