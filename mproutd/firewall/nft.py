"""Runs nft(8): reads and writes the table `inet mproutd`, and lists what others have.

The program rather than libnftables: its Python module is a package of its own, which a virtual
environment does not see, and takes 7 MB for good, while a child takes memory only for the few
milliseconds that it runs.  Text rather than JSON: OpenWrt's nftables-nojson has no JSON.

Every function blocks, for TIMEOUT at most: a daemon calls them in its worker thread.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from errno import EAFNOSUPPORT, ENOENT, EOPNOTSUPP, EPROTONOSUPPORT

from mproutd.environment import find_program
from mproutd.firewall.ruleset import TABLE, transaction
from mproutd.safefile import read_file, replace_file, unlink_if_present

TIMEOUT = 10.0
"""Seconds after which a child is killed; a commit waits for RCU and for other programs' ones."""
MAX_LISTING_BYTES = 8 << 20
"""Of a whole ruleset; a larger one is not searched for conflicts."""
RECORD_FILE = "nftables"
"""In the runtime directory: the table as written, and as nft lists it."""
_SBIN = ("/usr/sbin", "/sbin")
_UNSUPPORTED = tuple(map(os.strerror, (ENOENT, EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT)))
"""What nft says where the kernel lacks nf_tables, or an expression such as `ct mark`."""


class NftError(OSError):
    """nft failed, or is missing; `code` is the problem that a status reports."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(0, text)
        self.code, self.text = code, text


def table_listing() -> str:
    """The table as nft lists it, without the elements of sets; empty when there is none.

    NftError.
    """
    status, output, error = _run(("-s", "-t", "list", "table", *TABLE.split()))
    if status == 0:
        return output
    if os.strerror(ENOENT) in error:
        return ""
    raise _failure(error, _UNSUPPORTED[1:])


def write(table: str, existing: str, known: bool) -> str:
    """Make `table` of the `existing` one; see transaction().  The new listing.  NftError."""
    status, _, error = _run(("-f", "-"), transaction(table, existing, known))
    if status != 0 and known:  # for example a chain that another program's rule jumps to
        status, _, error = _run(("-f", "-"), transaction(table, existing))
    if status != 0:
        raise _failure(error, _UNSUPPORTED)
    return table_listing()


def whole_listing() -> str:
    """The ruleset of all programs, without the elements of sets; empty if it is too large.

    NftError.
    """
    status, output, error = _run(("-s", "-t", "list", "ruleset"))
    if status != 0:
        raise _failure(error, ())
    return output


class Record:
    """The table that we wrote and how nft listed it, so that a later process recognizes both.

    The listing differs between versions of nft; so a listing is compared with a listing only.
    """

    def __init__(self, runtime_dir: str) -> None:
        self._path = os.path.join(runtime_dir, RECORD_FILE)
        try:
            content = read_file(self._path, MAX_LISTING_BYTES).decode(errors="surrogateescape")
        except OSError:
            content = ""
        self.table, _, self._listing = content.partition("\0")
        """As written; empty when there is none, or it was deleted."""

    def is_as_left(self, listing: str) -> bool:
        """Whether the table in the kernel is as we left it."""
        return bool(self.table) and self._listing == listing

    def save(self, table: str, listing: str) -> None:
        """After a write.  OSError."""
        self.table, self._listing = table, listing
        if table:
            content = f"{table}\0{listing}"
            replace_file(self._path, content.encode(errors="surrogateescape"))
        else:
            unlink_if_present(self._path)


def _failure(error: str, unsupported: Sequence[str]) -> NftError:
    """nft's first error, without the position in the input."""
    line = error.partition("\n")[0]
    text = line.rpartition("Error: ")[2].removeprefix("Could not process rule: ")
    code = "nft-unsupported" if any(text.startswith(each) for each in unsupported) else "nft-failed"
    return NftError(code, text.strip() or "nft failed without an error message")


def _run(arguments: Sequence[str], script: str = "") -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of nft with `script` as its input.  NftError."""
    program = find_program("nft") or next(
        (path for folder in _SBIN if os.access(path := f"{folder}/nft", os.X_OK)), ""
    )
    if not program:
        raise NftError("nft-missing", "the program nft is not installed")
    # Files in memory: no pipe that fills up, and nothing to read while the child runs.
    files = [os.memfd_create(name) for name in ("input", "output", "errors")]
    try:
        os.write(files[0], script.encode(errors="surrogateescape"))
        os.lseek(files[0], 0, os.SEEK_SET)
        process = os.posix_spawn(
            program,
            (program, *arguments),
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, file, at) for at, file in enumerate(files)],
            setsigdef=(signal.SIGPIPE,),
        )
        status = _wait(process)
        output, errors = (_content(file) for file in files[1:])
    except OSError as error:
        raise NftError("nft-failed", f"cannot run {program}: {error.strerror}") from None
    finally:
        for file in files:
            os.close(file)
    return status, output, errors


def _wait(process: int) -> int:
    """The exit status of a child, which is killed if it takes too long."""
    end = os.pidfd_open(process)
    try:
        ended = select.poll()
        ended.register(end, select.POLLIN)
        if not ended.poll(TIMEOUT * 1000):
            os.kill(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    finally:
        os.close(end)


def _content(file: int) -> str:
    """What a child wrote to a file; nothing of what is too long."""
    size = os.fstat(file).st_size
    if size > MAX_LISTING_BYTES:
        return ""
    return os.pread(file, size, 0).decode(errors="surrogateescape")
