"""Generated values for property tests: what the model allows, and input that breaks decoders."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from struct import pack

from hypothesis import strategies as st

from mproutd.model import (
    Address,
    Endpoint,
    Limits,
    Link,
    Metrics,
    Nexthop,
    Operation,
    Route,
    Rule,
    bits,
    prefix,
)
from mproutd.netlink import mptcp_pm, rtnl_encode
from mproutd.netlink.nlmsg import put

FAMILIES = st.sampled_from((AF_INET, AF_INET6))
U32 = st.integers(0, 0xFFFFFFFF)
INDEXES = st.integers(0, 0x7FFFFFFF)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_@", min_size=1, max_size=15)


@st.composite
def texts(draw: st.DrawFn, family: int) -> str:
    """A canonical address."""
    return inet_ntop(
        family, draw(st.binary(min_size=bits(family) // 8, max_size=bits(family) // 8))
    )


@st.composite
def prefixes(draw: st.DrawFn, family: int) -> str:
    size = bits(family) // 8
    packed = draw(st.binary(min_size=size, max_size=size))
    return prefix(packed, draw(st.integers(0, bits(family))), family)


@st.composite
def metrics(draw: st.DrawFn) -> Metrics:
    """Sorted, without zeros; the congestion control's name is the only text."""
    numbers = draw(st.dictionaries(st.integers(1, 15), U32.filter(bool), max_size=4))
    values: dict[int, int | str] = {**numbers}
    if draw(st.booleans()):
        values[16] = draw(st.sampled_from(("bbr", "cubic")))
    return tuple(sorted(values.items()))


@st.composite
def multipath_routes(draw: st.DrawFn) -> Route:
    """A route with several ways through its device."""
    route = draw(routes().filter(lambda route: route.type == 1 and route.device))
    gateways = st.just("") | texts(route.family)
    hop = st.builds(Nexthop, gateways, st.integers(1, 256), st.booleans(), st.just(0))
    hops = tuple(draw(st.lists(hop, min_size=2, max_size=4)))
    return route._replace(nexthops=hops, gateway=hops[0].gateway, onlink=hops[0].onlink)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    family = draw(FAMILIES)
    through = draw(st.sampled_from((family, AF_INET6)))
    kind = draw(st.sampled_from((1, 1, 1, 7)))
    return Route(
        family,
        draw(st.integers(1, 0xFFFFFFFF)),
        draw(prefixes(family)),
        draw(INDEXES) if kind == 1 else 0,
        draw(st.just("") | texts(through)) if kind == 1 else "",
        draw(st.just("") | texts(family)),
        draw(st.just(0) | U32),
        draw(st.sampled_from((0, 200, 253, 254))),
        kind,
        draw(st.integers(0, 255)),
        draw(st.booleans()),
        draw(metrics()),
        draw(st.just("") | prefixes(family)).replace("default", "") if family == AF_INET6 else "",
    )


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    family = draw(FAMILIES)
    ends = st.just("") | prefixes(family).filter(lambda text: text != "default")
    return Rule(
        family,
        draw(U32),
        draw(st.integers(1, 0xFFFFFFFF)),
        draw(ends),
        draw(ends),
        draw(st.just("") | NAMES),
        draw(st.just("") | NAMES),
        draw(st.just(0) | U32),
        draw(st.just(0) | U32),
        draw(st.integers(-1, 128)),
        draw(st.integers(0, 255)),
    )


@st.composite
def addresses(draw: st.DrawFn) -> Address:
    family = draw(FAMILIES)
    own = draw(texts(family))
    peer = draw(st.just("") | texts(family).filter(lambda text: text != own))
    return Address(
        draw(INDEXES),
        own,
        draw(st.integers(0, bits(family))),
        peer,
        draw(st.sampled_from((0, 200, 253, 254))),
        draw(U32),
    )


@st.composite
def links(draw: st.DrawFn) -> Link:
    flag = st.booleans()
    setting = st.integers(0, 8)
    return Link(
        draw(st.integers(1, 0x7FFFFFFF)),
        draw(NAMES),
        draw(flag),
        draw(flag),
        draw(flag),
        draw(setting),
        draw(setting),
        draw(setting),
    )


@st.composite
def endpoints(draw: st.DrawFn) -> Endpoint:
    return Endpoint(
        draw(texts(draw(FAMILIES))),
        draw(INDEXES),
        draw(st.integers(0, 63)),
        draw(st.integers(0, 255)),
        draw(st.integers(0, 65535)),
    )


def messages() -> st.SearchStrategy[bytes]:
    """Requests of every kind, to be truncated or altered."""
    return st.one_of(
        routes().map(lambda value: rtnl_encode.change(Operation("add", value), 1)),
        rules().map(lambda value: rtnl_encode.change(Operation("add", value), 1)),
        endpoints().map(lambda value: mptcp_pm.change(Operation("add", value), 28, 1)),
        st.just(mptcp_pm.change(Operation("change", Limits(1, 2)), 28, 1)),
        st.sampled_from(
            (rtnl_encode.dump_links(1), mptcp_pm.get_family(1), mptcp_pm.probe(28, 1, 9))
        ),
    )


@st.composite
def attribute_soup(draw: st.DrawFn) -> bytes:
    """A plausible header, then attributes that are mostly well formed and mostly wrong."""
    family = draw(st.sampled_from((AF_INET, AF_INET6, 0, 7, 128, 255)))
    data = bytes((family,)) + draw(st.binary(min_size=3, max_size=15))
    kinds, payloads = st.integers(0, 31), st.binary(max_size=20)
    for kind in draw(st.lists(kinds, max_size=6)):
        inner = draw(payloads)
        data += put(kind, put(draw(kinds), inner) if draw(st.booleans()) else inner)
    if draw(st.booleans()):
        data += pack("=HH", draw(st.integers(0, 65535)), 1)
    return data
