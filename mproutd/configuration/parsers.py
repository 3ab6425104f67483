"""What an option's value may look like: one parser for each kind of value.  Pure.

A parser takes the text of one value and returns what the daemon uses.  It raises ValueError
with the part of the message that says what is wrong and what is accepted; its caller knows the
file, the line and the option.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

from mproutd.model import (
    FAMILY_NAMES,
    TABLE_DEFAULT,
    TABLE_LOCAL,
    TABLE_MAIN,
    bits,
    canonical,
    family_of,
    prefix,
    split_prefix,
)

TRUE = ("1", "yes", "on", "true", "enabled")
FALSE = ("0", "no", "off", "false", "disabled")
"""What UCI accepts as a boolean (OpenWrt's UCI documentation)."""
MAX_DEVICE_BYTES = 127
"""linux/if.h: ALTIFNAMSIZ is 128 with the terminating zero.  A name proper has at most 15, but an
alternative one serves as well."""
MAX_PATH_LENGTH = 1000
U32 = 0xFFFFFFFF

GATEWAYS: dict[str, int] = {"gateway": AF_INET, "gateway6": AF_INET6}
"""The words that stand for the uplink's own gateway in track_ip → its family."""
_FAMILIES: dict[str, int] = {"ipv4": AF_INET, "ipv6": AF_INET6}


def is_proper_name(device: str) -> bool:
    """Whether a device can have this name (IFNAMSIZ), so that rules may name it.

    A longer one is an alternative name (altname in ip-link(8)).
    """
    return 0 < len(device.encode()) < 16


def quoted(text: str, limit: int = 60) -> str:
    """Input as it may appear in a message: in quotes, control characters escaped, cut if long."""
    cut = text[:limit]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return f"'{safe}{'…' if len(text) > limit else ''}'"


def suggestion(text: str, known: Collection[str]) -> str:
    """ " (did you mean 'x'?)" where a known word is similar, else nothing."""
    if not text or len(text) > 40 or len(known) > 300:
        return ""
    from difflib import get_close_matches

    similar = get_close_matches(text.lower(), tuple(known), 1)
    return f" (did you mean '{similar[0]}'?)" if similar else ""


# -- numbers and words --------------------------------------------------------------------


def number(text: str) -> int:
    """A whole number without a sign, decimal or 0x…; no leading zero (C reads octal there)."""
    if text.isascii() and len(text) <= 20:
        if text.isdigit() and (text == "0" or text[0] != "0"):
            return int(text)
        digits = text[2:]
        if text[:2] in ("0x", "0X") and digits.isalnum():
            try:
                return int(digits, 16)
            except ValueError:
                pass
    raise ValueError(f"{quoted(text)} is not a whole number, such as 10 or 0x0a")


def integer(low: int, high: int) -> Callable[[str], int]:
    """A number within these bounds."""

    def parse(text: str) -> int:
        negative = text[:1] == "-" and text[1:].isdecimal()
        if negative or not low <= number(text) <= high:
            raise ValueError(f"{quoted(text)} is out of range: {low} to {high}")
        return number(text)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Seconds within these bounds, with up to three decimals."""

    def parse(text: str) -> float:
        whole, point, decimals = text.partition(".")
        digits = whole + decimals
        if not (whole and digits.isascii() and digits.isdigit()) or (point and not decimals):
            raise ValueError(f"{quoted(text)} is not a number of seconds, such as 2 or 0.5")
        if len(whole) > 9 or len(decimals) > 3 or not low <= float(text) <= high:
            raise ValueError(
                f"{quoted(text)} is out of range: {low:g} to {high:g} seconds, in steps of 0.001"
            )
        return float(text)

    return parse


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
"""Powers of 1000, as providers count."""
MAX_AMOUNT = 10**18


def amount(text: str) -> int:
    """Bytes, at least one: "20G", "1.5T", "500M"; with `i` ("20Gi") in powers of 1024."""
    digits = text.rstrip("BbIiKkMmGgTt")
    unit = text[len(digits) :].lower().removesuffix("b")
    binary, unit = unit.endswith("i"), unit.removesuffix("i")
    whole, point, decimals = digits.strip().partition(".")
    number_text = whole + decimals
    valid = number_text.isascii() and number_text.isdigit() and len(number_text) <= 18
    valid = valid and bool(whole) and bool(decimals or not point)
    if not valid or unit not in UNITS or (binary and not unit):
        raise ValueError(f"{quoted(text)} is not an amount of data, such as 20G or 500M")
    factor = 1 << 10 * list(UNITS).index(unit) if binary else UNITS[unit]
    value: int = int(number_text) * factor // 10 ** len(decimals)
    if not 1 <= value <= MAX_AMOUNT:
        raise ValueError(f"{quoted(text)} is out of range: 1 byte to {MAX_AMOUNT // 10**12} T")
    return value


def boolean(text: str) -> bool:
    if text in TRUE or text in FALSE:
        return text in TRUE
    raise ValueError(
        f"{quoted(text)} is not a boolean: use 1 or 0 ({', '.join(TRUE[1:])}; "
        f"{', '.join(FALSE[1:])})"
    )


def one_of(kind: str, words: tuple[str, ...]) -> Callable[[str], str]:
    """One of these words; `kind` is what they are, for the message."""

    def parse(text: str) -> str:
        if text in words:
            return text
        accepted = f"{', '.join(words[:-1])} or {words[-1]}"
        raise ValueError(f"{quoted(text)} is not a {kind}: use {accepted}{suggestion(text, words)}")

    return parse


def program(text: str) -> tuple[str, ...]:
    """A command line as words, split as a shell does; no shell runs it."""
    from shlex import split

    try:
        words = split(text)
    except ValueError as error:
        raise ValueError(f"{quoted(text)} cannot be split: {str(error).lower()}") from None
    if not words or not words[0].startswith("/"):
        raise ValueError(f"{quoted(text)} does not start with an absolute path, such as /bin/sh")
    if not text.isprintable():
        raise ValueError(f"{quoted(text)} contains a control character")
    return tuple(words)


# -- devices and addresses ----------------------------------------------------------------


def device(text: str) -> str:
    """A network device's name (net/core/dev.c, dev_valid_name)."""
    if text.startswith("/dev/"):
        raise ValueError(
            f"{quoted(text)} is a modem's port, not a network device: set `device` in the "
            "uplink's section of mproutd"
        )
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_DEVICE_BYTES:
        raise ValueError(
            f"{quoted(text)} is too long for a device name: {size} bytes, "
            f"at most {MAX_DEVICE_BYTES}"
        )
    if text in ("", ".", ".."):
        raise ValueError(f"{quoted(text)} is not a device name")
    if text[0] == "@":
        raise ValueError(f"{quoted(text)} is an alias of an interface: name its device instead")
    for c in text:
        if c in "/:" or c.isspace() or not c.isprintable():
            raise ValueError(f"{quoted(text)} is not a device name: it contains {quoted(c)}")
    return text


def device_or_alias(text: str) -> str:
    """A device's name, or "@" and the interface of network whose device it is."""
    return text if text[:1] == "@" and len(text) > 1 else device(text)


def gateway(family: int, other_option: str) -> Callable[[str], str]:
    """A unicast address of this family; `other_option` takes those of the other one."""
    family_name = FAMILY_NAMES[family]

    def parse(text: str) -> str:
        if not is_address(text):
            raise ValueError(f"{quoted(text)} is not an {family_name} address")
        address = canonical(text)
        if family_of(address) != family:
            raise ValueError(
                f"{quoted(text)} is not an {family_name} address: set {other_option} instead"
            )
        first = address.partition(".")[0]
        if address in ("::", "0.0.0.0"):
            kind = "the unspecified address"
        elif address == "::1" or (family == AF_INET and first == "127"):
            kind = "a loopback address"
        elif (family == AF_INET and 224 <= int(first) <= 239) or (
            address.startswith("ff") and address.find(":") == 4
        ):
            kind = "a multicast address"
        elif address == "255.255.255.255":
            kind = "the broadcast address"
        else:
            return address
        raise ValueError(f"{quoted(text)} cannot be a gateway: it is {kind}")

    return parse


def source_prefix(text: str) -> str:
    """A unicast prefix of either family, in canonical form."""
    address, slash, length = text.partition("/")
    if not is_address(address) or (slash and not length.isdecimal()):
        raise ValueError(f"{quoted(text)} is not a prefix such as 2001:db8:1::/56")
    family = family_of(address)
    packed, size = inet_pton(family, address), int(length) if slash else bits(family)
    if not 1 <= size <= bits(family):
        raise ValueError(f"{quoted(text)}: the length must be from 1 to {bits(family)}")
    network = prefix(packed, size, family)
    if split_prefix(network, family)[0] != packed:
        raise ValueError(f"{quoted(text)} has bits beyond its length: write {network}")
    return network


def resolver(text: str) -> str:
    """The address of a DNS server, of either family; the uplink's device is its scope."""
    address, percent, _ = text.partition("%")
    if not is_address(address):
        raise ValueError(f"{quoted(text)} is not an address of a DNS server")
    address = canonical(address)
    if percent:
        raise ValueError(f"{quoted(text)} names a device: write {address}, for the uplink's own")
    first = address.partition(".")[0]
    if address in ("::", "0.0.0.0", "::1") or first == "127":
        raise ValueError(f"{quoted(text)} is this host: name a server of the provider")
    if address.startswith("ff") or (family_of(address) == AF_INET and int(first) >= 224):
        raise ValueError(f"{quoted(text)} is a multicast or reserved address")
    return address


def own_address(text: str) -> str:
    """An address that this host may have, of either family."""
    if not is_address(text):
        raise ValueError(f"{quoted(text)} is not an address, without a length")
    address = canonical(text)
    first = address.partition(".")[0]
    if address in ("::", "::1") or first in ("0", "127"):
        raise ValueError(f"{quoted(text)} is every host's own: no gateway can take it over")
    if address.startswith("ff") or (family_of(address) == AF_INET and int(first) >= 224):
        raise ValueError(f"{quoted(text)} is a multicast or reserved address")
    return address


class Target(NamedTuple):
    """A host that a health check probes."""

    text: str
    """An address, a host name, or a key of GATEWAYS."""
    family: int
    """0 for a host name, until track_family is known."""

    @property
    def is_name(self) -> bool:
        return self.text not in GATEWAYS and not is_address(self.text)


def target(text: str) -> Target:
    """An address, a host name, or a key of GATEWAYS."""
    if text in GATEWAYS:
        return Target(text, GATEWAYS[text])
    if is_address(text):
        address = canonical(text)
        first = address.partition(".")[0]
        if address in ("::", "0.0.0.0", "::1", "255.255.255.255") or first == "127":
            raise ValueError(f"{quoted(text)} cannot be reached through an uplink")
        if address.startswith("ff") or (family_of(address) == AF_INET and int(first) >= 224):
            raise ValueError(f"{quoted(text)} is a multicast or reserved address")
        return Target(address, family_of(address))
    if not _is_name(text):
        raise ValueError(
            f"{quoted(text)} is neither an address nor a host name, nor `gateway` or `gateway6` "
            "for the uplink's own"
        )
    return Target(text.lower(), 0)


def domain_name(text: str) -> str:
    """A name to ask a resolver for; "." for the root."""
    if text != "." and not _is_name(text):
        raise ValueError(f"{quoted(text)} is not a domain name, such as www.example.org, or .")
    return text.lower()


def _is_name(text: str) -> bool:
    labels = text.removesuffix(".").split(".")
    return len(text) <= 253 and not labels[-1].isdigit() and all(map(is_label, labels))


def is_address(text: str) -> bool:
    try:
        canonical(text)
    except (OSError, ValueError):
        return False
    return True


def is_label(text: str) -> bool:
    """Whether it can be a part of a host name; with _, which some names of services have."""
    return (
        text.isascii()
        and text.replace("-", "a").replace("_", "a").isalnum()
        and len(text) <= 63
        and text[0] != "-" != text[-1]
    )


def family(text: str) -> int:
    return _FAMILIES[one_of("family", tuple(_FAMILIES))(text)]


def url_path(text: str) -> str:
    """The path and query of a request to a web server (RFC 9112, origin-form)."""
    if (
        not text.startswith("/")
        or not all("!" <= c <= "~" for c in text)
        or len(text) > MAX_PATH_LENGTH
    ):
        raise ValueError(
            f"{quoted(text)} is not a path: it starts with /, has no spaces and at most "
            f"{MAX_PATH_LENGTH} characters"
        )
    return text


# -- tables and marks ---------------------------------------------------------------------


def table(text: str) -> int:
    """The number of a routing table that may be ours."""
    try:
        value = number(text)
    except ValueError:
        raise ValueError(
            f"{quoted(text)} is not a number (names of rt_tables are not looked up)"
        ) from None
    if value in (TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL):
        raise ValueError(f"table {value} belongs to the kernel (253 default, 254 main, 255 local)")
    if not 1 <= value <= U32:
        raise ValueError(f"{quoted(text)} is out of range: 1 to {U32}")
    return value


def mark(text: str) -> tuple[int, int | None]:
    """ "MARK" or "MARK/MASK"; the mask is None where the text has none."""
    value_text, slash, mask_text = text.partition("/")
    value = number(value_text)
    mask = number(mask_text) if slash else None
    if value > U32 or (mask or 0) > U32:
        raise ValueError(f"{quoted(text)} does not fit in 32 bits")
    if value == 0:
        raise ValueError(f"{quoted(text)} would match unmarked packets: set at least one bit")
    if mask is not None and value & ~mask:
        raise ValueError(f"{quoted(text)} can never match: the mark has bits outside its mask")
    return value, mask


def mark_mask(text: str) -> int:
    value = number(text)
    if value > U32:
        raise ValueError(f"{quoted(text)} does not fit in 32 bits")
    if value.bit_count() < 2:
        raise ValueError(f"{quoted(text)} has fewer than two bits, which marks need")
    return value
