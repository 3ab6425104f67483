"""procd's script, uci-defaults and the rpcd plugin, under busybox with a router's programs only.

What procd and ubus would receive is recorded by stand-ins of the tests' own; the JSON goes
through a real parser.  What procd does with it is read in its source (service/instance.c): with
the same command a changed file of `file` means `reload_signal`, else nothing; capabilities
count only for an instance with a jail, and a jail without mounts sees all files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mproutd.services.netifd import UBUS_CALL
from tests.lab import CONFIG_DIR, RUNTIME_DIR, Daemon, Wan, eventually
from tests.lab.daemon import REPOSITORY
from tests.lab.openwrt import APPLETS, Router

ROOT = Path(__file__).parents[2]
FILES = ROOT / "packaging" / "openwrt" / "mproutd" / "files"
INIT = ROOT / "etc" / "init.d" / "mproutd"
DEFAULTS = ROOT / "etc" / "uci-defaults" / "60-mproutd"
PLUGIN = FILES / "usr" / "libexec" / "rpcd" / "mproutd"
CAPABILITIES = ROOT / "etc" / "capabilities" / "mproutd.json"

RC_COMMON = """\
script=$1 action=$2
shift 2
for call in procd_open_instance procd_close_instance procd_set_param procd_add_jail \\
	procd_add_reload_trigger chown; do
	eval "$call() { echo $call \\"\\$@\\"; }"
done
service_triggers() { :; }
. "$script"
start() { start_service "$@"; service_triggers; }
stop() { echo procd_kill mproutd; }
reload() { if type reload_service >/dev/null 2>&1; then reload_service; else start; fi; }
restart() { stop; start; }
enable() { echo "S${START}mproutd ${STOP:+K$STOP}"; }
"$action" "$@"
"""
"""What rc.common does with a script that has USE_PROCD; every call of procd's is a line."""


class Box(Router):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.folder("etc/config")
        self.folder("sbin")
        self.folder("tmp")
        for name in ("network", "mproutd"):
            (self.root / "etc/config" / name).write_text("")

    def jail(self) -> None:
        """ujail and the capabilities are installed."""
        (self.root / "sbin/ujail").write_text("")
        (self.root / "sbin/ujail").chmod(0o755)
        shutil.copy(CAPABILITIES, self.folder("etc/capabilities"))

    def init(self, action: str, check: int = 0) -> list[str]:
        """What the script asks procd for; `check`: how `mproutd check --enabled` ends."""
        program = self.program("mproutd", f'[ "$*" = "check --enabled" ] && exit {check}\n')
        script = INIT.read_text().replace("PROGRAM=/usr/sbin/mproutd", f"PROGRAM={program}")
        assert str(program) in script
        copy = self.folder("etc/init.d") / "mproutd"
        copy.write_text(script)
        output = self.sh(RC_COMMON, {"IPKG_INSTROOT": str(self.root)}, [str(copy), action])
        return output.replace(str(program), "PROGRAM").replace(str(self.root), "").splitlines()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


# -- procd --------------------------------------------------------------------------------

FILES_READ = " ".join(
    f"{folder}/{name}"
    for folder in ("/etc/config", "/var/run/uci")
    for name in ("network", "mproutd")
)
AS_ROOT = f"""\
procd_open_instance
procd_set_param command PROGRAM run --syslog
procd_set_param respawn 3600 5 0
procd_set_param file {FILES_READ}
procd_set_param reload_signal HUP
procd_set_param stderr 1
procd_close_instance
procd_add_reload_trigger network mproutd
""".splitlines()
AS_USER = [
    *AS_ROOT[:-2],
    "chown -hR mproutd:mproutd /var/run/mproutd",
    "chown -hR mproutd:mproutd /etc/mproutd",
    "procd_add_jail mproutd",
    "procd_set_param capabilities /etc/capabilities/mproutd.json",
    "procd_set_param user mproutd",
    "procd_set_param group mproutd",
    "procd_set_param no_new_privs 1",
    *AS_ROOT[-2:],
]


def test_it_starts_after_netifd_and_does_not_stop_at_a_shutdown(box: Box) -> None:
    (line,) = box.init("enable")
    start = re.fullmatch(r"S(\d\d)mproutd ", line)
    assert start
    assert 20 < int(start[1]) < 99


def test_procd_keeps_it_running_and_reloads_it_after_changes(box: Box) -> None:
    assert box.init("start") == AS_ROOT
    assert box.init("reload") == AS_ROOT  # the same again: procd compares, and signals
    assert box.init("restart") == ["procd_kill mproutd", *AS_ROOT]
    runtime = box.root / "var/run/mproutd"
    hints = box.root / "var/run/mproutd-hints"
    assert list(runtime.iterdir()) == []
    assert {path.stat().st_mode & 0o777 for path in (runtime, hints)} == {0o755}


def test_where_ujail_is_it_is_not_root(box: Box) -> None:
    box.jail()
    assert box.init("start") == AS_USER
    (box.root / "etc/capabilities/mproutd.json").unlink()
    assert box.init("start") == AS_ROOT


@pytest.mark.parametrize(("check", "runs"), [(0, True), (1, False), (2, True), (127, True)])
def test_without_multipath_nothing_runs_unless_something_is_left(
    box: Box, check: int, runs: bool
) -> None:
    """2: the configuration is refused, which the daemon has to say."""
    assert box.init("start", check) == (AS_ROOT if runs else AS_ROOT[-1:])
    box.folder("var/run/mproutd")
    (box.root / "var/run/mproutd/state.json").write_text("{}")
    assert box.init("reload", check) == AS_ROOT


def test_umask_and_older_modes_of_the_folder_do_not_matter(box: Box) -> None:
    folders = [box.folder("var/run/mproutd"), box.folder("var/run/mproutd-hints")]
    for folder in folders:
        folder.chmod(0o777)
    box.init("start")
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o755}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_nothing_is_changed_in_a_folder_that_the_service_user_owns(box: Box) -> None:
    """It may hold links to anywhere; root would change what they lead to."""
    box.jail()
    secret = box.folder("secret")
    secret.chmod(0o700)
    runtime, state = box.folder("var/run/mproutd"), box.folder("etc/mproutd")
    (runtime / "hints").symlink_to(secret)
    (runtime / "state.json").write_text("{}")
    for folder in (runtime, state):
        os.chown(folder, 12345, -1)
    assert box.init("start") == [line for line in AS_USER if not line.startswith("chown")]
    assert secret.stat().st_mode & 0o777 == 0o700


# -- uci-defaults -------------------------------------------------------------------------


def defaults(box: Box) -> None:
    assert box.sh(f'. "{DEFAULTS}"', {"IPKG_INSTROOT": str(box.root)}) == ""


def test_uci_defaults_change_nothing_of_the_users(box: Box) -> None:
    config = box.root / "etc/config"
    (config / "mproutd").write_text("config mproutd 'globals'\n\toption role 'both'\n")
    (config / "mproutd").chmod(0o600)
    before = {path: (path.read_bytes(), path.stat()) for path in config.iterdir()}
    for _ in range(2):
        defaults(box)
    assert {path: (path.read_bytes(), path.stat()) for path in config.iterdir()} == before


def test_uci_defaults_give_uci_a_file_to_write_to(box: Box) -> None:
    file = box.root / "etc/config/mproutd"
    file.unlink()
    for _ in range(2):
        defaults(box)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("", 0o644)
    file.unlink()
    file.symlink_to("/nonexistent/elsewhere")
    defaults(box)
    assert os.readlink(file) == "/nonexistent/elsewhere"


def test_who_runs_reads_the_access_lists_again(box: Box) -> None:
    makefile = (ROOT / "packaging/openwrt/mproutd/Makefile").read_text()
    postinst = makefile.split("define Package/mproutd-rpcd/postinst\n")[1].split("endef")[0]
    box.program("killall", f'echo "$*" >>{box.root}/killed\nexit 1\n')
    killed = box.root / "killed"
    own = DEFAULTS.read_text().replace("$IPKG_INSTROOT/etc/", f"{box.root}/etc/")
    for script, whom in ((own, "ubusd"), (postinst.replace("$$", "$"), "rpcd")):
        assert box.sh(script, {"IPKG_INSTROOT": str(box.root)}) == ""
        assert not killed.exists()  # an image is being made
        assert box.sh(script) == ""
        assert killed.read_text() == f"-HUP {whom}\n"
        killed.unlink()


# -- ubus ---------------------------------------------------------------------------------


class RpcPlugin(Box):
    """rpcd's end of the plugin, with an `mproutd` that prints and ends as it is asked to."""

    requests: list[dict[str, Any]]
    """The requests on the control socket."""

    def mproutd(self, out: str = "", err: str = "", status: int = 0) -> None:
        for name, text in (("out", out), ("err", err)):
            (self.root / name).write_text(text)
        self.program(
            "mproutd",
            f'echo "$*" >>"{self.root}/commands"\n'
            f'cat "{self.root}/out"; cat "{self.root}/err" >&2\n'
            f"exit {status}\n",
        )

    def call(
        self, method: str, arguments: str = "{}", variables: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        return self.execute(["call", method], arguments, variables)

    def execute(
        self, argv: list[str], stdin: str = "", variables: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        done = subprocess.run(
            self.command(str(PLUGIN), *argv),
            env=self.variables({"TMPDIR": str(self.root / "tmp"), **(variables or {})}),
            input=stdin,
            text=True,
            capture_output=True,
            timeout=20,
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        reply = json.loads(done.stdout)
        assert isinstance(reply, dict)
        return reply

    def commands(self) -> list[str]:
        file = self.root / "commands"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    @contextmanager
    def daemon(self, *replies: bytes) -> Iterator[dict[str, str]]:
        """Somebody at a control socket with these replies; the environment that names it."""
        path = self.folder("run") / "control.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def serve() -> None:
                for reply in replies:
                    connection, _ = listener.accept()
                    with connection:
                        self.requests.append(json.loads(connection.recv(1 << 16)))
                        connection.sendall(reply)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield {"MPROUTD_RUNTIME_DIR": str(path.parent)}
            thread.join(5)


@pytest.fixture
def plugin(tmp_path: Path) -> RpcPlugin:
    box = RpcPlugin(tmp_path)
    box.requests = []
    (box.path / "socat").symlink_to(shutil.which("socat") or "/nonexistent")
    return box


METHODS = {"status": {}, "connections": {}, "reconcile": {"dry_run": True}}


def test_the_methods_and_their_arguments(plugin: RpcPlugin) -> None:
    assert plugin.execute(["list"]) == METHODS


def test_the_access_list_names_every_method_once() -> None:
    lists = json.loads((FILES / "usr/share/rpcd/acl.d/mproutd.json").read_text())["mproutd"]
    assert lists["read"]["ubus"] == {"mproutd": ["status", "connections"]}
    assert lists["write"]["ubus"] == {"mproutd": ["reconcile"]}


def test_status_and_connections_are_the_daemons_and_no_program_of_ours_starts(
    plugin: RpcPlugin,
) -> None:
    status = {"version": 1, "text": 'a "quoted"\n\\line', "uplinks": [{"name": "wan1"}] * 2000}
    connections = {"version": 1, "connections": []}
    replies = [json.dumps(reply).encode() + b"\n" for reply in (status, connections)]
    with plugin.daemon(*replies) as variables:
        assert plugin.call("status", variables=variables) == status
        assert plugin.call("connections", variables=variables) == connections
    assert plugin.requests == [{"command": "status"}, {"command": "connections"}]
    assert plugin.commands() == []


def test_a_daemon_that_goes_without_an_answer_is_named(plugin: RpcPlugin) -> None:
    with plugin.daemon(b"", b'{"version": 1, "upl') as variables:
        for _ in range(2):
            result = plugin.call("status", variables=variables)
            assert "does not answer" in result["error"]
            assert result["code"] == 1
    assert plugin.commands() == []


def test_a_socket_that_nobody_listens_at_leads_to_the_command(plugin: RpcPlugin) -> None:
    with plugin.daemon() as variables:
        pass
    plugin.mproutd('{"running": false}')
    assert plugin.call("status", variables=variables) == {"running": False}
    assert plugin.commands() == ["status --json"]


@pytest.mark.parametrize("status", [0, 1, 3])
def test_a_reply_is_that_of_the_command_whatever_its_status(plugin: RpcPlugin, status: int) -> None:
    status_json = {"version": 1, "text": 'a "quoted"\n\\line', "uplinks": [{"name": "wan1"}] * 500}
    plugin.mproutd(json.dumps(status_json, indent=2) + "\n", "mproutd: a warning\n", status)
    assert plugin.call("status") == status_json
    assert plugin.call("connections") == status_json
    assert plugin.commands() == ["status --json", "connections --json"]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("{}", "reconcile --json"),
        ("", "reconcile --json"),
        ('{"dry_run":true}', "reconcile --dry-run --json"),
        ('{ "dry_run": true, "ubus_rpc_session": "0123" }', "reconcile --dry-run --json"),
        ('{"ubus_rpc_session":"0123","dry_run":true}', "reconcile --dry-run --json"),
        ('{"dry_run":1}', "reconcile --dry-run --json"),  # as `ubus call` with a 1 has it
        ('{"dry_run":false}', "reconcile --json"),
        ('{"dry_run":0}', "reconcile --json"),
        ('{"dry_run":10}', "reconcile --json"),
        ('{"x":"\\"dry_run\\":true,"}', "reconcile --json"),
        ('{"dry_run":"$(touch injected)"}', "reconcile --json"),
    ],
)
def test_arguments_are_parsed_as_rpcd_writes_them(
    plugin: RpcPlugin, arguments: str, command: str
) -> None:
    plugin.mproutd('{"changes": []}')
    assert plugin.call("reconcile", arguments) == {"changes": []}
    assert plugin.commands() == [command]
    assert not list(plugin.root.rglob("injected"))


def test_a_failure_is_an_object_with_the_reason(plugin: RpcPlugin) -> None:
    plugin.mproutd("", "mproutd: one\nmproutd: /etc/config/network:3: a 'b' \"c\" \\d\te\x01\n", 2)
    assert plugin.call("status") == {
        "error": "/etc/config/network:3: a 'b' \"c\" \\d e",
        "code": 2,
    }
    plugin.mproutd("half of { an answer", "", 1)
    assert plugin.call("status") == {"error": "", "code": 1}
    (plugin.path / "mproutd").unlink()
    result = plugin.call("status")
    assert (result["code"], "not found" in result["error"]) == (127, True)
    assert plugin.call("flush") == {"error": "no such method: flush", "code": 2}
    assert plugin.execute([])["code"] == 2
    assert os.listdir(plugin.root / "tmp") == []
    (plugin.root / "tmp").rmdir()
    assert "no room" in plugin.call("status")["error"]


@pytest.mark.kernel
def test_ubus_call_is_the_command_with_and_without_a_daemon(plugin: RpcPlugin) -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        daemon = Daemon(wan.gateway)
        inside = " ".join(wan.gateway.command("/usr/bin/env", f"PYTHONPATH={REPOSITORY}"))
        plugin.program(
            "mproutd",
            f"/usr/bin/{inside} MPROUTD_CONFIG_DIR={CONFIG_DIR} MPROUTD_RUNTIME_DIR={RUNTIME_DIR} "
            f'{sys.executable} -m mproutd "$@"\n',
        )
        with daemon:
            daemon.settle()
            variables = {"MPROUTD_RUNTIME_DIR": str(wan.gateway.path(RUNTIME_DIR))}
            result, wanted = plugin.call("status", variables=variables), daemon.status()
            assert result.keys() == wanted.keys()
            assert result["running"] is True
            assert [uplink["name"] for uplink in result["uplinks"]] == ["wan1", "wan2"]
            assert plugin.call("connections", variables=variables)["connections"] == []
            assert plugin.call("reconcile")["changes"] == []
        result = plugin.call("status")
        assert (result["running"], result["degraded"]) == (False, wanted["degraded"])
        daemon.configure(
            network="config interface 'wan1'\n\toption device 'eth1'\n\toption multipath 'maybe'\n"
        )
        result = plugin.call("status")
        assert result["code"] == 2
        assert "network:3: interface 'wan1', option 'multipath'" in result["error"]


# -- the user -----------------------------------------------------------------------------


def test_the_user_may_call_only_the_ubus_methods_of_the_daemon() -> None:
    allowed = json.loads((FILES / "usr/share/acl.d/mproutd.json").read_text())
    _, what, method = UBUS_CALL
    assert allowed == {"user": "mproutd", "access": {what: {"methods": [method]}}}


def test_it_has_what_systemd_gives_and_may_read_the_configuration() -> None:
    unit = (ROOT / "etc/systemd/system/mproutd.service").read_text()
    (capabilities,) = re.findall(r"^AmbientCapabilities=(.*)", unit, re.MULTILINE)
    for names in json.loads(CAPABILITIES.read_text()).values():
        assert set(names) == {*capabilities.split(), "CAP_DAC_READ_SEARCH"}


@pytest.mark.kernel
def test_with_these_capabilities_alone_it_does_all_its_work() -> None:
    """The user nobody, a configuration that only root may read, settings of the kernel to write."""
    given = json.loads(CAPABILITIES.read_text())
    sets = {tuple(names) for names in given.values()}
    assert given.keys() == {"bounding", "effective", "ambient", "permitted", "inheritable"}
    (names,) = sets
    words = [name.removeprefix("CAP_").lower() for name in names]
    one = ",".join(f"+{word}" for word in words)
    as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
    as_user += [
        f"--inh-caps=-all,{one}",
        f"--ambient-caps=-all,{one}",
        f"--bounding-set=-all,{one}",
    ]

    class Unprivileged(Daemon):
        def command(self, verb: str, *arguments: str) -> list[str]:
            usual = super().command(verb, *arguments)
            return [*as_user, *usual] if verb == "run" else usual

    with Wan(lan=False, shaped=False).usual() as wan:
        wan.gateway.sysctl("net.ipv4.conf.eth1.rp_filter", 1)
        daemon = Unprivileged(wan.gateway)
        for name in ("network", "mproutd"):
            path = wan.gateway.path(CONFIG_DIR) / name
            if path.exists():
                path.chmod(0o600)
        runtime = wan.gateway.path(RUNTIME_DIR)
        runtime.mkdir(exist_ok=True)
        os.chown(runtime, 65534, 65534)
        with daemon:
            eventually(lambda: "10.2.2.2" in wan.gateway.ip("mptcp endpoint show"))
            assert wan.gateway.sysctl("net.ipv4.conf.eth1.rp_filter") == "2"
            assert not daemon.settle()["degraded"]
            wan.unplug(1)
            eventually(lambda: "10.1.1.2" not in wan.gateway.ip("mptcp endpoint show"))
            owner = (runtime / "state.json").stat().st_uid
            assert owner == 65534


# -- all of them --------------------------------------------------------------------------


def test_no_script_names_a_program_that_a_router_lacks() -> None:
    """The words that begin a command, as far as a line shows them; the PATH above is the proof.

    socat is a package that mproutd-rpcd depends on.
    """
    given = {"mproutd", "procd_open_instance", "local", "shift", "socat"}
    for script in (INIT, DEFAULTS, PLUGIN, ROOT / "hotplug/iface/30-mproutd"):
        for word in re.findall(
            r"(?:^\s*|\$\(|[|;&] ?)([a-z_]+) ", script.read_text(), re.MULTILINE
        ):
            path = shutil.which(word)
            assert not path or word in APPLETS or word in given, (script.name, word)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck here")
def test_shellcheck_gets_them_and_finds_nothing() -> None:
    """procd's first line is not plain /bin/sh; lint has to find its script all the same."""
    made = subprocess.run(
        ["make", "-s", "--eval=shown: ; @echo $(SCRIPTS)", "shown"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    scripts = {str(p.relative_to(ROOT)) for p in (INIT, DEFAULTS, PLUGIN)}
    assert scripts | {"hotplug/iface/30-mproutd"} <= set(made)
    subprocess.run(["shellcheck", "--shell=dash", *made], cwd=ROOT, check=True)
