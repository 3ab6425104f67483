"""The hooks of dhclient and ifupdown: which hint they leave, and when a daemon notices.

Each case has the environment that the real program gives (dhclient-script(8), interfaces(5),
read from isc-dhcp-client 4.4.3 and ifupdown 0.8.41), under each shell that may run it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from socket import AF_INET, AF_INET6

import pytest

from mproutd.hints import Hints, HintsWatch, hints_directory

ROOT = Path(__file__).parents[2]
DHCLIENT = ROOT / "etc/dhcp/dhclient-exit-hooks.d/mproutd"
IFUP = ROOT / "if-up.d/mproutd"
DISPATCHER = ROOT / "etc/NetworkManager/dispatcher.d/60-mproutd"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

LEASE = {
    "reason": "BOUND",
    "interface": "eth2",
    "new_ip_address": "10.2.2.50",
    "new_subnet_mask": "255.255.255.0",
    "new_broadcast_address": "10.2.2.255",
    "new_network_number": "10.2.2.0",
    "new_routers": "10.2.2.1",
    "new_domain_name_servers": "10.2.2.1",
    "new_dhcp_lease_time": "120",
    "new_dhcp_message_type": "5",
    "new_dhcp_server_identifier": "10.2.2.1",
    "new_expiry": "1700000120",
    "pid": "4711",
}
RENEWED = (
    LEASE
    | {"reason": "RENEW", "new_expiry": "1700000240"}
    | {key.replace("new_", "old_"): value for key, value in LEASE.items() if "new_" in key}
)
LOST = {key: value for key, value in RENEWED.items() if "new_" not in key}
STANZA = {
    "IFACE": "eth2",
    "LOGICAL": "eth2",
    "ADDRFAM": "inet",
    "METHOD": "static",
    "CLASS": "auto",
    "MODE": "start",
    "PHASE": "post-up",
    "VERBOSITY": "0",
    "PATH": PATH,
    "IF_ADDRESS": "10.2.2.2/24",
    "IF_GATEWAY": "10.2.2.1",
}
STANZA6 = STANZA | {"ADDRFAM": "inet6", "IF_ADDRESS": "2001:db8:2::2/64", "IF_GATEWAY": "fe80::1"}
STOPPED = {"MODE": "stop", "PHASE": "post-down"}

FROM_LEASE = "address=10.2.2.50\ngateway=10.2.2.1\ndns=10.2.2.1\nreason=BOUND\n"
FROM_STANZA = "address=10.2.2.2\ngateway=10.2.2.1\nreason=post-up\n"


class Machine:
    """A runtime directory, a shell, and what a daemon would have noticed."""

    def __init__(self, runtime: Path, shell: list[str]) -> None:
        self.runtime, self.shell = runtime, shell
        runtime.mkdir(exist_ok=True)
        self.folder = Path(hints_directory(str(runtime)))
        self._watch = HintsWatch(str(runtime))

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        return {"PATH": PATH, **variables, "MPROUTD_RUNTIME_DIR": str(self.runtime)}

    def dhclient(self, variables: Mapping[str, str], before: str = "", after: str = "") -> str:
        """Source the hook as dhclient-script's run_hook does, between two pieces of script."""
        script = f'{before}\n. "$1"\n{after}\n'
        return self._run([*self.shell, "-c", script, "sh", str(DHCLIENT)], variables)

    def ifup(self, variables: Mapping[str, str], hook: Path = IFUP) -> str:
        return self._run([*self.shell, str(hook)], variables)

    def dispatch(self, device: str, action: str, variables: Mapping[str, str] = {}) -> str:
        return self._run([*self.shell, str(DISPATCHER), device, action], variables)

    def _run(self, argv: list[str], variables: Mapping[str, str]) -> str:
        done = subprocess.run(
            argv, env=self.environment(variables), text=True, capture_output=True, timeout=5
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def hint(self, device: str = "eth2", family: int = 4) -> str | None:
        """What the hint says; None where there is none.  Nothing else lies in the folder."""
        assert [name for name in os.listdir(self.folder) if name.startswith(".")] == []
        path = self.folder / f"{device}:{family}"
        return path.read_text() if path.exists() else None

    def gateways(self, device: str = "eth2") -> dict[int, str]:
        """What the daemon makes of it."""
        hints = Hints(str(self.runtime))
        read = hints.read([device])
        assert hints.error == ""
        return {family: gateways[0].address for (_, family), gateways in read.items()}

    def woke(self) -> bool:
        """Whether anything in the directory changed since the last call."""
        return self._watch.has_changed()


SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    shell = SHELLS[request.param]
    if not shutil.which(shell[0]):
        pytest.skip(f"no {shell[0]} here")
    return Machine(tmp_path / "run", shell)


# -- dhclient -----------------------------------------------------------------------------


def test_a_lease_hands_over_its_gateway_and_wakes(machine):
    machine.dhclient(LEASE)
    assert machine.hint() == FROM_LEASE
    assert machine.gateways() == {AF_INET: "10.2.2.1"}
    assert machine.woke()


def test_a_renewal_writes_nothing_and_causes_no_pass(machine):
    machine.dhclient(LEASE)
    machine.woke()
    before = os.stat(machine.folder / "eth2:4")
    folder = os.stat(machine.folder)
    for reason in ("RENEW", "REBIND", "REBOOT"):
        machine.dhclient(RENEWED | {"reason": reason})
    after = os.stat(machine.folder / "eth2:4")
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert os.stat(machine.folder).st_mtime_ns == folder.st_mtime_ns
    assert not machine.woke()


@pytest.mark.parametrize("reason", ["RENEW", "REBIND", "REBOOT", "TIMEOUT"])
def test_whatever_brings_another_gateway_hands_it_over(machine, reason):
    machine.dhclient(LEASE)
    machine.dhclient(RENEWED | {"reason": reason, "new_routers": "10.2.2.254 10.2.2.253"})
    assert machine.gateways() == {AF_INET: "10.2.2.254"}
    assert machine.woke()


@pytest.mark.parametrize("reason", ["EXPIRE", "FAIL", "RELEASE", "STOP"])
def test_a_lease_that_ends_takes_its_hint_along_once(machine, reason):
    machine.dhclient(LEASE)
    machine.dhclient(LOST | {"reason": reason})
    assert machine.hint() is None
    assert machine.woke()
    machine.dhclient(LOST | {"reason": reason})
    assert not machine.woke()


@pytest.mark.parametrize(
    "reason", ["MEDIUM", "PREINIT", "ARPCHECK", "ARPSEND", "NBI", "PREINIT6", "BOUND6", "RENEW6"]
)
def test_other_reasons_change_nothing(machine, reason):
    machine.dhclient(LEASE)
    machine.woke()
    machine.dhclient({"reason": reason, "interface": "eth2", "new_ip6_address": "2001:db8::5"})
    assert machine.hint() == FROM_LEASE
    assert not machine.woke()


@pytest.mark.parametrize(
    ("routes", "gateway"),
    [
        ("0 10 2 2 9", "10.2.2.9"),
        ("24 192 168 7 10 2 2 3 0 10 2 2 9", "10.2.2.9"),
        ("8 10 10 2 2 3 16 172 16 10 2 2 3 32 10 9 9 9 10 2 2 3 0 10 2 2 9", "10.2.2.9"),
        ("25 192 168 7 128 10 2 2 3 1 128 10 2 2 4", None),
        ("24 192 168 7 10 2 2 3", None),
        ("0 0 0 0 0", None),
        ("24 192 168", None),
        ("33 1 2 3 4 5 6 7 8 9", None),
        ("0 10 2 2 $(touch${IFS}x)", None),
        ("* * * * *", None),
    ],
)
def test_beside_classless_routes_the_routers_do_not_count(machine, routes, gateway):
    """RFC 3442; dhclient-script goes by it too."""
    machine.dhclient(LEASE | {"new_rfc3442_classless_static_routes": routes})
    assert machine.gateways() == ({AF_INET: gateway} if gateway else {})


def test_a_lease_without_a_router_hands_over_its_resolvers(machine):
    machine.dhclient({key: LEASE[key] for key in LEASE if key != "new_routers"})
    assert machine.hint() == "dns=10.2.2.1\nreason=BOUND\n"
    assert machine.gateways() == {}


@pytest.mark.parametrize(
    "servers", ["", "10.2.2.1;id", "10.2.2.1\ndns=9.9.9.9", "$(id)", "dns.test"]
)
def test_what_are_no_addresses_is_not_handed_over(machine, servers):
    machine.dhclient(LEASE | {"new_domain_name_servers": servers})
    assert machine.hint() == FROM_LEASE.replace("dns=10.2.2.1\n", "")


def test_dhcpv6_hands_over_its_resolvers(machine):
    lease = {
        "reason": "BOUND6",
        "interface": "eth2",
        "new_dhcp6_name_servers": "2001:db8::53 fe80::1",
    }
    machine.dhclient(lease)
    assert machine.hint(family=6) == "dns=2001:db8::53 fe80::1\nreason=BOUND6\n"
    assert machine.woke()
    machine.dhclient(lease | {"reason": "RENEW6"})
    assert not machine.woke()
    machine.dhclient({"reason": "RELEASE6", "interface": "eth2"})
    assert machine.hint(family=6) is None


@pytest.mark.parametrize("action", ["up", "dhcp4-change", "dhcp6-change", "reapply"])
def test_networkmanager_hands_over_resolvers(machine, action):
    named = {"IP4_NAMESERVERS": "10.2.2.53 10.2.2.54", "IP6_NAMESERVERS": "fe80::53"}
    machine.dispatch("eth2", action, {"DEVICE_IP_IFACE": "eth2", **named})
    assert machine.hint() == f"dns=10.2.2.53 10.2.2.54\nreason={action}\n"
    assert machine.hint(family=6) == f"dns=fe80::53\nreason={action}\n"
    assert machine.woke()
    machine.dispatch("eth2", "dhcp4-change", named)
    assert not machine.woke()
    machine.dispatch("eth2", "connectivity-change")
    machine.dispatch("", "hostname")
    assert not machine.woke()
    machine.dispatch("cdc-wdm0", "up", {"DEVICE_IP_IFACE": "eth2", "IP4_NAMESERVERS": "x"})
    assert (machine.hint(), machine.hint(family=6)) == (None, None)
    machine.dispatch("eth2", "up", named)
    machine.dispatch("eth2", "down")
    assert (machine.hint(), machine.hint(family=6)) == (None, None)


def test_a_stanza_names_resolvers_with_and_without_a_gateway(machine):
    machine.ifup(STANZA | {"IF_DNS_NAMESERVERS": "10.2.2.53 10.2.2.54"})
    dns = "dns=10.2.2.53 10.2.2.54\n"
    assert machine.hint() == FROM_STANZA.replace("reason", f"{dns}reason")
    machine.ifup({**STANZA, "IF_GATEWAY": "", "IF_DNS_NAMESERVER": "10.2.2.53"})
    assert machine.hint() == "dns=10.2.2.53\nreason=post-up\n"


def test_a_lease_without_a_router_and_without_resolvers_leaves_no_hint(machine):
    left_out = ("new_routers", "new_domain_name_servers")
    machine.dhclient({key: LEASE[key] for key in LEASE if key not in left_out})
    assert machine.hint() is None
    assert not machine.woke()


HOSTILE = [
    "10.2.2.1\ngateway=6.6.6.6",
    "$(touch /tmp/mproutd-injected)",
    "`touch /tmp/mproutd-injected`",
    "'; touch /tmp/mproutd-injected; '",
    '"; touch /tmp/mproutd-injected; "',
    "10.2.2.1;x",
    "*",
    "-n",
    "%s%n",
    "\\n10.2.2.1",
    "10.2.2",
    "10.2.2.1.1",
    "1..2.3",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_that_a_server_sends_gets_further_than_its_own_value(machine, text):
    machine.dhclient(LEASE | {"new_routers": text})
    assert machine.gateways() in ({}, {AF_INET: "10.2.2.1"})
    machine.dhclient(LEASE | {"new_ip_address": text})
    assert machine.gateways() == {AF_INET: "10.2.2.1"}
    machine.dhclient(LEASE | {"new_rfc3442_classless_static_routes": text})
    assert machine.gateways() == {}
    assert not os.path.exists("/tmp/mproutd-injected")


@pytest.mark.parametrize(
    "device", ["", ".", "..", "../state.json", "a/b", "a b", "a\nb", "a\tb", "a:b"]
)
def test_what_is_no_device_gets_no_hint(machine, device):
    (machine.runtime / "state.json").write_text("{}")
    for variables in (LEASE, RENEWED, LOST | {"reason": "STOP"}):
        machine.dhclient(variables | {"interface": device})
    for stanza in (STANZA, STANZA | STOPPED):
        machine.ifup(stanza | {"IFACE": device})
    assert os.listdir(machine.folder) == []
    assert sorted(os.listdir(machine.runtime)) == ["state.json"]
    assert (machine.runtime / "state.json").read_text() == "{}"


def test_dhclient_script_goes_on_as_if_nothing_had_been(machine):
    """With its own variables, options, folder, umask and functions."""
    of_the_hook = "name=n four=4 six=6 lines=l gateway=g hint=h runtime=r new=N nl=x status=0"
    changing = "-e ^_= -e ^BASH -e ^LINENO -e ^RANDOM -e ^SECONDS -e ^PIPESTATUS"
    show = f'set | grep -v {changing}; echo "$-"; pwd; umask; type leave 2>/dev/null || :'
    output = machine.dhclient(
        LEASE, f"{of_the_hook}\n{show}\nprintf '===\\n'", f"status=$?; printf '===\\n'\n{show}"
    )
    before, between, after = output.split("===\n")
    assert between == ""
    assert "new_routers" in before
    assert after == before


@pytest.mark.parametrize("options", ["set -e", "set -u", "set -eu", "set -f", "IFS=.", "cd /"])
def test_the_hook_stands_whatever_the_caller_has_set(machine, options):
    machine.dhclient(LEASE, options)
    assert machine.hint() == FROM_LEASE
    machine.dhclient({}, options, "echo")


def test_without_a_daemon_nothing_waits_and_the_hint_is_there_for_later(machine):
    for folder in (machine.runtime, machine.folder):
        shutil.rmtree(folder)
        machine.dhclient(LEASE)
        assert machine.hint() == FROM_LEASE
    assert os.stat(machine.folder).st_mode & 0o777 == 0o755
    assert not machine.runtime.exists()


def test_what_anybody_else_could_replace_is_left_alone(machine, tmp_path):
    """The directory is a link, or somebody else's: root's hooks write nothing into it."""
    secret = tmp_path / "secret"
    secret.mkdir()
    shutil.rmtree(machine.folder)
    machine.folder.symlink_to(secret)
    machine.dhclient(LEASE)
    machine.ifup(STANZA)
    (secret / "eth2:4").write_text(FROM_LEASE)
    machine.dhclient(LOST | {"reason": "RELEASE"})
    machine.ifup(STANZA | STOPPED)
    assert os.listdir(secret) == ["eth2:4"]
    machine.folder.unlink()
    machine.folder.mkdir()
    if os.geteuid() == 0:
        os.chown(machine.folder, 12345, -1)
        machine.dhclient(LEASE)
        machine.ifup(STANZA)
        assert os.listdir(machine.folder) == []


def test_what_lies_in_the_daemons_own_directory_is_not_touched(machine, tmp_path):
    """The daemon's user may put anything there: a FIFO that nobody reads, a huge file, links."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (machine.runtime / "hints").symlink_to(outside)
    os.mkfifo(machine.runtime / "wake")
    os.mkfifo(machine.runtime / "eth2:4")
    before = sorted(os.listdir(machine.runtime))
    machine.dhclient(LEASE)
    machine.ifup(STANZA)
    machine.ifup(STANZA | STOPPED)
    assert sorted(os.listdir(machine.runtime)) == before
    assert os.listdir(outside) == []
    for path in (DHCLIENT, IFUP, ROOT / "hotplug/iface/30-mproutd"):
        assert "<>" not in path.read_text()


def test_a_hint_that_the_daemon_would_not_read_is_not_written(machine):
    machine.dhclient(LEASE | {"new_routers": "1" * 5000 + ".2.2.1"})
    machine.ifup(STANZA | {"LOGICAL": "x" * 5000})
    machine.ifup(STANZA | {"IF_GATEWAY": "1" * 5000 + ".2.2.1"})
    assert machine.hint() is None
    machine.ifup(STANZA | {"LOGICAL": "x" * 3900})
    assert machine.gateways() == {AF_INET: "10.2.2.1"}


def test_a_folder_that_cannot_be_made_is_no_error(machine):
    shutil.rmtree(machine.folder)
    machine.folder.write_text("no folder")
    machine.dhclient(LEASE)
    machine.ifup(STANZA)
    assert machine.folder.read_text() == "no folder"


def test_ten_at_once_leave_whole_hints(machine):
    argv = [*machine.shell, "-c", '. "$1"', "sh", str(DHCLIENT)]
    for devices in ([f"eth{n}" for n in range(10)], ["eth2"] * 10):
        running = [
            subprocess.Popen(
                argv,
                env=machine.environment(
                    LEASE
                    | {
                        "interface": device,
                        "new_routers": f"10.2.2.{n}",
                        "new_ip_address": f"10.9.9.{n}",
                    }
                ),
            )
            for n, device in enumerate(devices, 1)
        ]
        assert [process.wait(10) for process in running] == [0] * 10
    for device in (f"eth{n}" for n in range(10)):
        address, gateway, _, reason = (machine.hint(device) or "").splitlines()
        assert address.removeprefix("address=10.9.9.") == gateway.removeprefix("gateway=10.2.2.")
        assert reason == "reason=BOUND"
    assert machine.woke()


# -- ifupdown -----------------------------------------------------------------------------


def test_a_stanza_hands_over_its_gateway_once(machine):
    machine.ifup(STANZA)
    assert machine.hint() == FROM_STANZA
    assert machine.woke()
    machine.ifup(STANZA)
    assert not machine.woke()
    machine.ifup(STANZA | STOPPED)
    assert machine.hint() is None
    assert machine.woke()


def test_two_stanzas_of_one_device_share_its_hint(machine):
    machine.ifup(STANZA)
    machine.ifup(STANZA6)
    assert machine.gateways() == {AF_INET: "10.2.2.1", AF_INET6: "fe80::1"}
    machine.ifup(STANZA)
    assert machine.woke()
    machine.ifup(STANZA | STOPPED)
    assert machine.gateways() == {AF_INET6: "fe80::1"}
    machine.ifup(STANZA6 | STOPPED)
    assert machine.hint() is None


def test_a_stanza_and_a_lease_share_a_hint(machine):
    dhcp = {key: STANZA[key] for key in STANZA if "IF_" not in key} | {"METHOD": "dhcp"}
    machine.dhclient(LEASE)
    machine.ifup(dhcp)
    machine.ifup(STANZA6 | {"LOGICAL": "home"})
    six = "interface=home\ngateway6=fe80::1\nreason=post-up\n"
    assert (machine.hint(), machine.hint(family=6)) == (FROM_LEASE, six)
    assert machine.gateways() == {AF_INET: "10.2.2.1", AF_INET6: "fe80::1"}
    assert machine.woke()
    machine.dhclient(RENEWED)
    assert (machine.hint(), machine.hint(family=6)) == (FROM_LEASE, six)
    assert not machine.woke()
    machine.dhclient(LOST | {"reason": "RELEASE"})
    machine.ifup(dhcp | STOPPED)
    assert (machine.hint(), machine.hint(family=6)) == (None, six)


def test_a_lease_and_a_stanza_at_once_lose_neither_family(machine):
    """ifupdown and dhclient do not wait for each other, and no lock is asked for."""
    lease = [*machine.shell, "-c", '. "$1"', "sh", str(DHCLIENT)]
    stanza = [*machine.shell, str(IFUP)]
    for last in range(1, 6):
        gateway, gateway6 = f"10.2.2.{last}", f"fe80::{last}"
        four = machine.environment(LEASE | {"new_routers": gateway})
        six = machine.environment(STANZA6 | {"IF_GATEWAY": gateway6})
        running = [
            subprocess.Popen(argv, env=env)
            for argv, env in ((lease, four), (stanza, six), (lease, four), (stanza, six))
        ]
        assert [process.wait(10) for process in running] == [0] * 4
        assert machine.gateways() == {AF_INET: gateway, AF_INET6: gateway6}


def test_a_static_stanza_without_a_gateway_takes_an_older_one_back(machine):
    machine.ifup(STANZA)
    machine.ifup({key: STANZA[key] for key in STANZA if key != "IF_GATEWAY"})
    assert machine.hint() is None
    assert machine.woke()


@pytest.mark.parametrize(
    "variables",
    [
        {"IFACE": "lo", "LOGICAL": "lo", "METHOD": "loopback"},
        {"IFACE": "--all", "LOGICAL": "--all", "ADDRFAM": "meta", "METHOD": "none"},
        {"IFACE": "eth2:1", "LOGICAL": "eth2:1"},
        {"IFACE": ""},
    ],
    ids=["lo", "ifup -a", "alias", "nameless"],
)
def test_what_is_no_uplink_changes_nothing(machine, variables):
    machine.ifup(STANZA)
    machine.woke()
    machine.ifup(STANZA | variables)
    machine.ifup(STANZA | variables | STOPPED)
    assert os.listdir(machine.folder) == ["eth2:4"]
    assert machine.hint() == FROM_STANZA
    assert not machine.woke()


@pytest.mark.parametrize("missing", sorted(STANZA))
def test_a_variable_may_be_missing(machine, missing):
    machine.ifup({key: STANZA[key] for key in STANZA if key != missing})
    if missing not in ("IFACE", "IF_GATEWAY"):
        assert machine.gateways() == {AF_INET: "10.2.2.1"}
    machine.ifup({key: value for key, value in (STANZA | STOPPED).items() if key != missing})
    if missing != "IFACE":
        assert machine.hint() is None


def test_no_variable_at_all(machine):
    machine.ifup({})
    assert os.listdir(machine.folder) == []
    assert not machine.woke()


def test_what_networkmanager_gives_the_same_folder(machine):
    """Its dispatcher's 01-ifupdown: no family, no options of a stanza."""
    given = {
        "IFACE": "eth2",
        "LOGICAL": "eth2",
        "ADDRFAM": "NetworkManager",
        "METHOD": "NetworkManager",
        "MODE": "start",
        "PHASE": "post-up",
    }
    machine.dhclient(LEASE)
    machine.ifup(given)
    assert machine.hint() == FROM_LEASE
    machine.ifup(given | STOPPED)
    assert machine.hint() is None


def test_the_folder_gives_the_direction_where_nothing_else_does(machine, tmp_path):
    machine.ifup(STANZA)
    down = tmp_path / "if-post-down.d" / "mproutd"
    down.parent.mkdir()
    shutil.copy(IFUP, down)
    machine.ifup({key: STANZA[key] for key in STANZA if key not in ("MODE", "PHASE")}, down)
    assert machine.hint() is None


@pytest.mark.parametrize("variable", sorted(STANZA.keys() - {"PATH", "IFACE"}))
@pytest.mark.parametrize("text", HOSTILE[:9], ids=range(9))
def test_no_variable_gets_further_than_its_own_value(machine, variable, text):
    machine.ifup(STANZA | {variable: text})
    assert machine.gateways() in ({}, {AF_INET: "10.2.2.1"})
    assert not os.path.exists("/tmp/mproutd-injected")


# -- both ---------------------------------------------------------------------------------


def test_what_the_hooks_share_is_the_same_text():
    shared = [
        path.read_text().partition("from here …")[2].partition("… to here")[0]
        for path in (DHCLIENT, IFUP, DISPATCHER)
    ]
    assert "leave() {" in shared[0]
    assert shared[0] == shared[1] == shared[2]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck here")
def test_shellcheck_finds_nothing():
    subprocess.run(["shellcheck", "--shell=dash", DHCLIENT, IFUP], check=True)
