"""Reads and writes the table `inet mproutd`, and lists the rules of other programs.

The table is written by netlink, not by nft(8): a table that somebody flushed is back in less than
a millisecond, before packets have gone by another uplink, and nothing has to be installed.  Only
the rules of others are read by nft, if that is there: no other program prints them.

Reading and writing block for less than a millisecond, unless another program is loading a large
ruleset.
"""

from __future__ import annotations

import os
import select
import signal
from errno import ENOENT, EOPNOTSUPP, EPROTONOSUPPORT

from mproutd.environment import find_program
from mproutd.firewall.ruleset import TABLE
from mproutd.firewall.script import script
from mproutd.netlink.nft_events import (
    chain_name,
    chains_request,
    is_of,
    rules_request,
    set_name,
    sets_request,
)
from mproutd.netlink.nft_values import Table
from mproutd.netlink.nftables import NETLINK_NETFILTER, RULESET_GROUP, transaction
from mproutd.netlink.sockets import Events, Requests
from mproutd.safefile import read_file, replace_file, unlink_if_present

TIMEOUT = 10.0
"""Seconds after which nft is killed."""
MAX_LISTING_BYTES = 2 << 20
"""Of a whole ruleset; a larger one is not searched for conflicts."""
RECORD_FILE = "nftables"
"""In the runtime directory: the table as written, and as the kernel lists it."""
_MAX_RECORD_BYTES = 8 << 20
_SBIN = ("/usr/sbin", "/sbin")
_MISSING = (ENOENT, EOPNOTSUPP, EPROTONOSUPPORT)
_TABLE_PART, _RULES_PART = (
    "nf_tables for the family inet",
    "connection marks (nf_conntrack, nft_ct, nft_chain_nat)",
)
"""What the kernel may lack of the table, and of its chains and rules."""
_HEAD_BYTES = 4
"""Of struct nfgenmsg."""
_SEPARATOR = b"\0\0\0\0"


class Found(bytes):
    """The table's chains and rules as the kernel dumps them, with their handles.

    Equal only if nobody has changed anything; empty without the table.
    """


def subscribe() -> Events:
    """The socket of what anybody changes in nf_tables.  OSError."""
    try:
        return Events(NETLINK_NETFILTER, (RULESET_GROUP,))
    except OSError as error:
        raise _unsupported(error, "nf_tables") from None


def read_table() -> Found:
    """The table in the kernel.  OSError."""
    channel = _channel()
    try:
        chains = [body for body in channel.dump(chains_request) if is_of(body, TABLE)]
        rules = channel.dump(rules_request(TABLE)) if chains else []
        # Without the head, which counts the transactions of all programs.
        return Found(b"".join(body[_HEAD_BYTES:] for body in (*chains, *rules)))
    except OSError as error:
        raise _unsupported(error, "nf_tables") from None
    finally:
        channel.close()


def write_table(table: Table, known: bool) -> Found:
    """Make this table, or delete it where it has no chains.  What the kernel has then.  OSError.

    A table that is `known` to be as we left it, or that has sets, only has its rules and chains
    replaced, so that sets keep their elements; any other is deleted first.
    """
    channel = _channel()
    try:
        stale, sets = None, []
        if (known or table.sets) and table.chains:
            bodies = [body for body in channel.dump(chains_request) if is_of(body, TABLE)]
            stale = sorted({*map(chain_name, bodies)} - {chain.name for chain in table.chains})
            if table.sets and bodies:
                sets = [*map(set_name, channel.dump(sets_request(TABLE)))]
        failed = channel.transaction(transaction(table, stale, sets))
        if failed and stale is not None:  # for example a set that refers to a chain
            failed = channel.transaction(transaction(table))
    except OSError as error:
        raise _unsupported(error, "nf_tables") from None
    finally:
        channel.close()
    for index, ack in failed.items():
        refused = OSError(ack.errno, ack.text or os.strerror(ack.errno))
        raise _unsupported(refused, _TABLE_PART if index < 2 else _RULES_PART)
    return read_table() if table.chains else Found()


def _channel() -> Requests:
    try:
        return Requests(NETLINK_NETFILTER)
    except OSError as error:
        raise _unsupported(error, "nf_tables") from None


def _unsupported(error: OSError, part: str) -> OSError:
    """The error, with what the kernel lacks where it says no more than that something is."""
    if error.errno not in _MISSING:
        return error
    return OSError(error.errno, f"the kernel has no {part}: {error.strerror}")


class Record:
    """What we wrote, so that a later process recognizes it."""

    def __init__(self, runtime_dir: str) -> None:
        self._path = os.path.join(runtime_dir, RECORD_FILE)
        try:
            content = read_file(self._path, _MAX_RECORD_BYTES)
        except OSError:
            content = b""
        written, _, found = content.partition(_SEPARATOR)
        self.script, self.found = written.decode("utf-8", "surrogateescape"), Found(found)
        """As nft would read it; empty when there is no table of ours."""

    def is_as_left(self, found: Found) -> bool:
        """Whether the table in the kernel is as we left it."""
        return bool(found) and bool(self.script) and self.found == found

    def holds(self, table: Table) -> bool:
        """Whether this is what we wrote last."""
        return self.script == (script(table) if table.chains else "")

    def save(self, table: Table, found: Found) -> None:
        """After a write.  OSError."""
        self.script, self.found = script(table) if table.chains else "", found
        if table.chains:
            content = self.script.encode("utf-8", "surrogateescape")
            replace_file(self._path, content + _SEPARATOR + found)
        else:
            unlink_if_present(self._path)


# -- nft(8) -------------------------------------------------------------------------------


class Listing:
    """A child that lists the rules of all programs, without the elements of sets."""

    def __init__(self, program: str) -> None:
        """OSError when it cannot be started."""
        # A file in memory: no pipe that fills up, and nothing to read while the child runs.
        self._output = os.memfd_create("ruleset")
        try:
            self._process = os.posix_spawn(
                program,
                (program, "-s", "-t", "list", "ruleset"),
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, self._output, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setsigdef=(signal.SIGPIPE,),
            )
        except BaseException:
            os.close(self._output)
            raise
        self._end = os.pidfd_open(self._process)

    def fileno(self) -> int:
        """Readable when the child has ended (pidfd_open(2))."""
        return self._end

    def kill(self) -> None:
        os.kill(self._process, signal.SIGKILL)

    def finish(self) -> str:
        """What a child printed that has ended; empty if it failed, or printed too much."""
        status = os.waitpid(self._process, 0)[1]
        size = os.fstat(self._output).st_size
        text = b"" if status or size > MAX_LISTING_BYTES else os.pread(self._output, size, 0)
        os.close(self._output)
        os.close(self._end)
        return text.decode(errors="surrogateescape")


def find_nft() -> str:
    """The path of nft; empty when it is not installed."""
    paths = (f"{folder}/nft" for folder in _SBIN)
    return find_program("nft") or next((path for path in paths if os.access(path, os.X_OK)), "")


def whole_listing() -> str:
    """The same at once; empty without nft.  Blocks."""
    program = find_nft()
    if not program:
        return ""
    listing = Listing(program)
    ended = select.poll()
    ended.register(listing, select.POLLIN)
    if not ended.poll(TIMEOUT * 1000):
        listing.kill()
    return listing.finish()
