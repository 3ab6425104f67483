"""OpenMPTCProuter's configuration as ours: modes, limits, omr-tracker and omr-bypass.  Pure.

Its modes stand in network, where mproutd reads them too.  What omr-bypass keeps out of the tunnel
to the server leaves here as other traffic (`default`), or by the uplink that it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mproutd.configuration.parsers import quoted
from mproutd.configuration.sections import Section
from mproutd.importers.draft import (
    Draft,
    DraftSection,
    Missing,
    Names,
    Source,
    left_out,
    skipped,
)
from mproutd.importers.interfaces import Interfaces
from mproutd.importers.selectors import ADDRESS, DOMAIN, MAC, classify

FILE, OTHERS = "openmptcprouter", ("omr-tracker", "omr-bypass")

SYSCTL = "mproutd leaves it to sysctl"
LIMITS = {"mptcp_subflows": "subflows", "mptcp_add_addr_accepted": "add_addr_accepted"}
"""Options of network's globals → ours."""
NETWORK_GLOBALS = {
    "mptcp_path_manager": "the kernel's own path manager; `fullmesh` is an option of an uplink",
    "mptcp_scheduler": f"{SYSCTL}: net.mptcp.scheduler",
    "mptcp_checksum": f"{SYSCTL}: net.mptcp.checksum_enabled",
    "mptcp_syn_retries": SYSCTL,
    "mptcp_debug": SYSCTL,
    "mptcp_fullmesh_num_subflows": "`subflows` in mproutd's globals",
    "mptcp_fullmesh_create_on_err": "failed subflows are always re-established",
    "mptcp_ndiffports_num_subflows": "the kernel opens one subflow for each pair of addresses",
    "mptcp_rr_cwnd_limited": SYSCTL,
    "mptcp_rr_num_segments": SYSCTL,
    "mptcp_add_addr_timeout": f"{SYSCTL}: net.mptcp.add_addr_timeout",
    "mptcp_stale_loss_cnt": f"{SYSCTL}: net.mptcp.stale_loss_cnt",
    "mptcp_version": "the kernel of today has one version",
    "mptcp_force_multipath": "MPTCP is up to each program: see mptcpize",
    "mptcpd_enable": "mproutd takes the place of mptcpd",
}
PROXY = "the server, its tunnels and its proxy are separate programs"
TRACKER = Missing(
    "omr-tracker",
    {
        "defaults": {"options": "mproutd sends the probes itself", "mail_alert": "see `on_down`"},
        "interface": {"options": "mproutd sends the probes itself", "mail_alert": "see `on_down`"},
    },
)
TRACKER_OPTIONS = {
    "timeout": "timeout",
    "interval": "interval",
    "tries": "down",
    "interval_tries": "failure_interval",
}
METHODS = {"ping": "ping", "httping": "http", "": "ping"}
BYPASS_ALL = ("", "all")


def interfaces(files: Mapping[str, Sequence[Section]], network: Sequence[Section]) -> list[str]:
    """Those that have a mode in network, or that a tracker or a bypass names."""
    named = [
        Source(section).value("interface")
        for section in files.get("omr-bypass", ())
        if Source(section).flag("enabled", True)
    ]
    tracked = [s.name for s in files.get("omr-tracker", ()) if s.type == "interface"]
    modes = [s.name for s in network if s.type == "interface" and "multipath" in s.options]
    return [name for name in (*modes, *tracked, *named) if name not in BYPASS_ALL]


def convert(
    files: Mapping[str, Sequence[Section]], network: Sequence[Section], draft: Draft
) -> None:
    """Fill the draft."""
    importer = _Importer(draft, files, Interfaces(network, interfaces(files, network)))
    importer.limits(network)
    importer.settings()
    importer.trackers(network)
    importer.bypass()


class _Importer:
    def __init__(
        self, draft: Draft, files: Mapping[str, Sequence[Section]], found: Interfaces
    ) -> None:
        self._draft, self._files, self._interfaces = draft, files, found
        self._names = Names(found.uplinks)

    def limits(self, network: Sequence[Section]) -> None:
        own = self._draft.add("mproutd", "globals")
        for section in network:
            if section.type != "globals":
                continue
            for option in section.options:
                if option in LIMITS:
                    own.set(LIMITS[option], section.options[option].values[-1])
                elif option.startswith(("mptcp", "mptcpd")):
                    reason = NETWORK_GLOBALS.get(option, SYSCTL)
                    own.comment(skipped(section, option, reason))

    def settings(self) -> None:
        """Of the file openmptcprouter, only the modes concern routing."""
        comments = self._draft.add()
        for section in self._files[FILE]:
            if section.type == "interface":
                if "multipath" in section.options:
                    reason = "the mode in network counts"
                    comments.comment(skipped(section, "multipath", reason))
            elif "master" in section.options:
                master = section.options["master"].values[-1]
                reason = {
                    "balancing": "`weight` on the uplinks shares other traffic",
                    "failover": "`multipath` master, on and backup give the order",
                    "static": "`strict` on uplinks whose traffic must not move",
                }.get(master, "other traffic moves while the master is unusable, and returns")
                comments.comment(skipped(section, "master", reason))
            elif section.type == "server":
                comments.comment(left_out(section, PROXY))

    # -- omr-tracker ------------------------------------------------------------------------

    def trackers(self, network: Sequence[Section]) -> None:
        """Health checks of each uplink: its own section, or the defaults."""
        sections = self._files.get("omr-tracker", ())
        defaults = next((s for s in sections if s.type == "defaults"), None)
        own = {section.name: section for section in sections if section.type == "interface"}
        for section in sections:
            if section.type not in ("defaults", "interface"):
                self._draft.add().comment(left_out(section, PROXY))
        names = [s.name for s in network if s.type == "interface" and "multipath" in s.options]
        for name in dict.fromkeys([*names, *own]):
            uplink = self._interfaces.draft(self._draft, name, "on")
            if uplink is None:
                if name in own:
                    reason = self._interfaces.problem(name)
                    self._draft.add().comment(left_out(own[name], reason))
                continue
            if "track_ip" not in uplink.options:
                self._track(uplink, [s for s in (own.get(name), defaults) if s is not None])

    def _track(self, uplink: DraftSection, sections: Sequence[Section]) -> None:
        """The checks by these sections, of which the first counts."""
        sources = [Source(section) for section in sections]
        if not sources or not all(source.flag("enabled", True) for source in sources):
            return
        uplink.source = sections[0]

        def first(option: str) -> list[str]:
            return next((found for source in sources if (found := source.values(option))), [])

        kind = " ".join(first("type"))
        hosts = [*first("hosts"), *first("hosts6")]
        if kind == "none":
            hosts = ["gateway"]
            uplink.comment("type 'none' of omr-tracker probes only the gateway")
        elif kind not in METHODS:
            uplink.comment(f"type {quoted(kind)} of omr-tracker: the hosts are probed by ping")
        uplink.set("track_ip", *hosts)
        if not hosts:
            return
        method = METHODS.get(kind, "ping")
        uplink.set("track_method", "" if method == "ping" else method)
        for option, ours in TRACKER_OPTIONS.items():
            uplink.set(ours, *first(option))
        for source in sources:
            TRACKER.comment(uplink, source)

    # -- omr-bypass -------------------------------------------------------------------------

    def bypass(self) -> None:
        sections = self._files.get("omr-bypass", ())
        services = {s.name: Source(s).values("url") for s in sections if s.type == "proto"}
        for section in sections:
            source = Source(section)
            kinds = {
                "domains": ("name", "domain", DOMAIN),
                "ips": ("ip", "dest_ip", ADDRESS),
                "macs": ("mac", "src_mac", MAC),
                "lan_ip": ("ip", "src_ip", ADDRESS),
            }
            if section.type in ("proto", "global", "defaults", "bypass"):
                continue
            if section.type in kinds:
                option, ours, kind = kinds[section.type]
                values = source.values(option)
                self._bypass(source, {ours: [classify(v).value for v in values]}, kind, values)
            elif section.type in ("dest_port", "src_port"):
                protocols = [p for p in source.values("proto") if p != "all"] or ["tcp", "udp"]
                ports = {
                    section.type: source.values("dport" if section.type == "dest_port" else "sport")
                }
                self._bypass(source, {"proto": protocols, **ports})
            elif section.type in ("dpi", "dpis"):
                service = source.value("proto")
                if services.get(service):
                    self._bypass(source, {"domain": services[service]})
                else:
                    reason = f"no domains are known for {quoted(service)}: list them with `domain`"
                    self._draft.add().comment(left_out(section, reason))
            else:
                reason = (
                    "networks of an AS are not looked up; fill an nftables set, and match by `set`"
                    if section.type in ("asn", "asns")
                    else "not a section of omr-bypass that mproutd knows"
                )
                self._draft.add().comment(left_out(section, reason))

    def _bypass(
        self,
        source: Source,
        matches: Mapping[str, Sequence[str]],
        kind: str = "",
        values: Sequence[str] = (),
    ) -> None:
        """A rule for one section."""
        section = source.section
        if not source.flag("enabled", True):
            self._draft.add().comment(left_out(section, "disabled"))
            return
        wrong = next((value for value in values if classify(value).kind != kind), "")
        if wrong or not all(matches.values()):
            reason = f"{quoted(wrong)} cannot be matched" if wrong else "it selects nothing"
            self._draft.add().comment(left_out(section, reason))
            return
        target = "default"
        interface = source.value("interface")
        if interface not in BYPASS_ALL:
            uplink = self._interfaces.draft(self._draft, interface, "off")
            if uplink is None:
                self._draft.add().comment(left_out(section, self._interfaces.problem(interface)))
                return
            target = uplink.name
        rule = self._draft.add("rule", self._names.make("bypass", "rule"), section)
        family = source.value("family")
        if family in ("ipv4", "ipv6"):
            rule.set("family", family)
        for option, chosen in matches.items():
            rule.set(option, *chosen)
        rule.set("use_policy", target)
        if source.flag("vpn", False):
            rule.skip("vpn", "the tunnel to the server is not an uplink")
        if source.flag("noipv6", False):
            rule.skip("noipv6", "a matter of the resolver")
