"""The services of pin_flows on a kernel that refuses: one clear line, and the rest goes on."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.eventloop import Loop
from mproutd.firewall import nft, table
from mproutd.firewall.ruleset import make_table
from mproutd.model import Snapshot
from mproutd.netlink.nlmsg import Ack
from mproutd.planning.numbering import assign_numbers
from mproutd.planning.plan import Outcome, Plan, make_plan
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts
from mproutd.services import conntrack, nftables
from mproutd.services.base import ServiceContext
from tests.unit.test_pacing import Clock

CONFIG = Config(
    uplinks=(
        UplinkConfig("wan1", "eth1", "master"),
        UplinkConfig("wan2", "eth2", "on", failback="move"),
    )
)
TABLE = make_table(CONFIG, CONFIG.uplinks, assign_numbers(CONFIG, {}))


class Direct:
    """A Worker without a thread."""

    def __init__(self, loop: Loop) -> None:
        pass

    def submit(self, work: Callable[[], Any], done: Callable[[Any, str], None]) -> None:
        try:
            done(work(), "")
        except OSError as error:
            done(None, error.strerror)

    def close(self) -> None:
        pass


class Silent:
    """A subscription to which nothing happens."""

    def __init__(self, family: int, groups: object) -> None:
        pass

    def fileno(self) -> int:
        return 0

    def close(self) -> None:
        pass


class Kernel:
    """What read_table() and write_table() do; `refusal` is the error of the next calls."""

    def __init__(self) -> None:
        self.found = nft.Found()
        self.refusal: OSError | None = None
        self.writes = 0

    def read(self) -> nft.Found:
        if self.refusal:
            raise self.refusal
        return self.found

    def write(self, wanted: object, known: bool) -> nft.Found:
        if self.refusal:
            raise self.refusal
        self.writes += 1
        self.found = nft.Found(str(self.writes).encode() if wanted != table.NO_TABLE else b"")
        return self.found


class Site:
    """A service of one kind, with the events it published."""

    def __init__(self, root: Path, make: Callable[[ServiceContext], Any]) -> None:
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.log: list[str] = []
        context = ServiceContext(
            self.loop,
            lambda: None,
            lambda kind, priority, text, *_: self.log.append(text),
            str(root),
        )
        self.service = make(context)
        self.service.on_configuration(CONFIG)

    def make_pass(self, config: Config = CONFIG) -> None:
        snapshot = Snapshot({})
        plan: Plan = make_plan(config, snapshot, State(), Facts())
        self.service.on_pass(Outcome(snapshot, plan))

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = {"problems": [], "degraded": False, "uplinks": [{"name": "wan2"}]}
        self.service.add_to_status(status)
        return status

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        self.loop.run_timers()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(nft, "read_table", made.read)
    monkeypatch.setattr(nft, "write_table", made.write)
    monkeypatch.setattr(nft, "find_nft", lambda: "")
    monkeypatch.setattr(nftables, "is_router", lambda snapshot: True)
    monkeypatch.setattr(table, "is_router", lambda snapshot: True)
    monkeypatch.setattr(nftables, "Events", Silent)
    monkeypatch.setattr(Loop, "watch", lambda *_: None)
    return made


def test_a_kernel_without_nf_tables(kernel: Kernel, tmp_path: Path) -> None:
    kernel.refusal = OSError(errno.EOPNOTSUPP, "the kernel has no nf_tables")
    site = Site(tmp_path, nftables.PinnedFlows)
    site.make_pass()
    line = "cannot maintain the nftables table inet mproutd: the kernel has no nf_tables"
    assert site.log == [line]
    status = site.status()
    assert (status["pins_flows"], status["degraded"]) == (False, True)
    (problem,) = status["problems"]
    assert problem["code"] == "flows-not-pinned"
    assert "the kernel has no nf_tables" in problem["text"]
    site.later(1)
    site.later(2)
    assert site.log == [line], "said once"
    kernel.refusal = None
    site.later(4)
    assert (kernel.writes, site.status()["pins_flows"]) == (1, True)
    assert site.status()["problems"] == []


def test_a_write_that_is_refused_is_tried_again(kernel: Kernel, tmp_path: Path) -> None:
    site = Site(tmp_path, nftables.PinnedFlows)
    site.make_pass()
    kernel.refusal = OSError(errno.ENOMEM, "Cannot allocate memory")
    site.service.on_configuration(CONFIG._replace(main_routes=False))
    site.make_pass()
    assert site.status()["pins_flows"] is False
    kernel.refusal = None
    site.later(1)
    assert (kernel.writes, site.status()["pins_flows"]) == (2, True)
    site.make_pass()
    site.later(100)
    assert kernel.writes == 2


def test_switched_off_it_is_deleted_once(kernel: Kernel, tmp_path: Path) -> None:
    site = Site(tmp_path, nftables.PinnedFlows)
    site.make_pass()
    site.service.on_configuration(CONFIG._replace(pin_flows=False))
    site.make_pass()
    assert site.log[-1] == "deleted the nftables table inet mproutd"
    assert site.status()["pins_flows"] is None
    assert not [*tmp_path.iterdir()]
    site.service.close()


def test_one_that_others_delete_is_rate_limited(kernel: Kernel, tmp_path: Path) -> None:
    site = Site(tmp_path, nftables.PinnedFlows)
    site.make_pass()
    for _ in range(6):
        kernel.found = nft.Found()
        site.service._check(deleted=True)
    assert kernel.writes == 6
    (problem,) = site.status()["problems"]
    assert problem["code"] == "rate-limited"
    site.later(0.2)
    assert kernel.writes == 7
    assert site.status()["problems"][0]["code"] == "removed-externally"


def test_one_command_on_a_kernel_that_refuses(kernel: Kernel, tmp_path: Path) -> None:
    plan = make_plan(CONFIG, Snapshot({}), State(), Facts())

    def change(config: Config = CONFIG) -> list[tuple[str, str]]:
        made = table.change_now(str(tmp_path), config, plan, Snapshot({}))
        return [(operation.verb, error) for operation, error in made]

    kernel.refusal = OSError(errno.EPERM, "Operation not permitted")
    assert change() == [("add", "Operation not permitted")]
    assert change(Config(enabled=False)) == []
    kernel.refusal = None
    assert change() == [("add", "")]
    assert change() == []
    kernel.found = nft.Found()
    assert change(CONFIG._replace(pin_flows=False)) == []
    assert not [*tmp_path.iterdir()], "forgotten: somebody else has deleted it"
    kernel.found = nft.Found(b"left")
    assert change(Config(enabled=False)) == [("delete", "")]


class Refusing:
    """A socket whose transactions fail at these places."""

    failed: ClassVar[dict[int, Ack]] = {}

    def __init__(self, family: int) -> None:
        pass

    def transaction(self, requests: object) -> dict[int, Ack]:
        return self.failed

    def dump(self, encode: object) -> list[bytes]:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("failed", "text"),
    [
        ({0: Ack(errno.EOPNOTSUPP)}, "the kernel has no nf_tables for the family inet: Operation"),
        (
            {20: Ack(errno.ENOENT)},
            "the kernel has no connection marks (nf_conntrack, nft_ct, nft_chain_nat): No such",
        ),
        ({1: Ack(errno.EPERM, "owned")}, "owned"),
    ],
)
def test_what_the_kernel_lacks(
    monkeypatch: pytest.MonkeyPatch, failed: dict[int, Ack], text: str
) -> None:
    monkeypatch.setattr(nft, "Requests", Refusing)
    monkeypatch.setattr(Refusing, "failed", failed)
    with pytest.raises(OSError, match=re.escape(text)):
        nft.write_table(TABLE, False)
    with pytest.raises(OSError, match="the kernel has no nf_tables"):
        nft.read_table()
    with pytest.raises(OSError, match="the kernel has no nf_tables"):
        nft.write_table(TABLE, True)


def test_a_kernel_without_nfnetlink(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    for name in ("Requests", "Events"):
        monkeypatch.setattr(nft, name, refuse)
    for act in (nft.read_table, nft.subscribe, lambda: nft.write_table(TABLE, False)):
        with pytest.raises(OSError, match="the kernel has no nf_tables: Protocol"):
            act()


def test_a_kernel_that_does_not_list_connections(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(conntrack, "Worker", Direct)
    monkeypatch.setattr(conntrack, "_tracked", lambda: 0)

    def refuse(mask: int) -> Counter[int]:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(conntrack, "count", refuse)
    site = Site(tmp_path, conntrack.ConntrackFlusher)
    site.make_pass()
    (problem,) = site.status()["problems"]
    assert problem["code"] == "no-conntrack-netlink"
    assert site.status()["uplinks"][0]["flows"] is None
    monkeypatch.setattr(conntrack, "count", lambda mask: Counter({2 << 24: 7}))
    assert site.status()["uplinks"][0]["flows"] == 7
    monkeypatch.setattr(conntrack, "_tracked", lambda: 10**6)
    monkeypatch.setattr(conntrack, "count", lambda mask: Counter({2 << 24: 8}))
    assert site.status()["uplinks"][0]["flows"] == 8
    site.service.close()
