"""A node with one device, and the codec on its kernel: for tests of reading and writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from mproutd.model import Endpoint, Operation, Route, Rule
from mproutd.netlink import mptcp_pm, rtnl_decode, rtnl_encode
from tests.lab import Namespace
from tests.lab.raw_netlink import NETLINK_GENERIC, Netlink


class Machine(NamedTuple):
    """eth1 (10.1.1.2/24, 2001:db8:1::2/64) and its far end eth2, and a socket of each kind."""

    node: Namespace
    wire: Netlink
    generic: Netlink
    family: int
    eth1: int

    def write(self, verb: Any, value: Any) -> int:
        """Send one operation; the errno of its acknowledgement."""
        operation = Operation(verb, value)
        if isinstance(value, (Route, Rule)):
            return self.wire.ask(rtnl_encode.change(operation, 5))[1].errno
        return self.generic.ask(mptcp_pm.change(operation, self.family, 5))[1].errno

    def routes(self, table: int) -> list[Route]:
        answers, end = self.wire.ask(rtnl_encode.dump_routes(9, table))
        assert not end.errno
        return [route for message in answers for route in rtnl_decode.routes(message.body)]

    def rules(self) -> list[Rule]:
        answers, end = self.wire.ask(rtnl_encode.dump_rules(9))
        assert not end.errno
        received = [rtnl_decode.rule(message.body) for message in answers]
        return [rule for rule in received if rule and rule.protocol != 2]

    def endpoints(self) -> list[Endpoint]:
        answers, _ = self.generic.ask(mptcp_pm.dump_endpoints(self.family, 9))
        return [mptcp_pm.endpoint(message.body) for message in answers]


@contextmanager
def machine_in(node: Namespace) -> Iterator[Machine]:
    node.ip(
        "link add eth1 index 11 type veth peer name eth2",
        "link set eth1 up",
        "link set eth2 up",
        "address add 10.1.1.2/24 dev eth1",
        "address add 2001:db8:1::2/64 dev eth1 nodad",
    )
    with node.enter():
        wire, generic = Netlink(), Netlink(NETLINK_GENERIC)
    with wire, generic:
        (reply,), _ = generic.ask(mptcp_pm.get_family(1))
        yield Machine(node, wire, generic, mptcp_pm.family(reply.body).id, 11)
