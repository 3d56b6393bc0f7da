"""Which addresses a tool may call. Pure: what a URL says by itself, and what an address stands for.

The rules of the text are those of `convex/model/addresses.ts`, and one table tests both. There nobody can
check what a name resolves to; here `worker.tools.network` does, with `flaw_of`, before it connects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal
from urllib.parse import unquote

from worker.runtime.tools import ToolError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_CHARS = 4_096  # signed addresses are long
MAX_HOST_CHARS = 253
LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?]+)(?P<path>.*)", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]*:[^\]]*\]|[^:\[\]]+)(?::(?P<port>\d*))?")
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")  # a last label that makes other parsers read an IPv4 address

PRIVATE_SUFFIXES = frozenset(
    (
        *("local", "localhost", "localdomain", "internal", "intranet", "private", "lan", "home", "corp"),
        *("test", "example", "invalid", "onion", "alt", "arpa", "workgroup", "domain", "mail"),
    )
)
"""Names that never stand for a public address, whatever a resolver says."""
MIRRORS = (
    *("nip.io", "sslip.io", "xip.io", "traefik.me"),
    *("localtest.me", "lvh.me", "vcap.me", "lacolhost.com"),
)
"""Public names that answer with whatever address stands in them, or with the loopback."""

_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("168.63.129.16/32", "a cloud's metadata service"),  # Azure's stands among public addresses
        ("169.254.169.254/32", "a cloud's metadata service"),
        ("100.100.100.200/32", "a cloud's metadata service"),
        ("fd00:ec2::254/128", "a cloud's metadata service"),
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "the loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a relay to IPv6"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "the loopback"),
        ("::ffff:0:0/96", "an IPv4 address in IPv6"),
        ("64:ff9b::/96", "an IPv4 address behind a translator"),
        ("64:ff9b:1::/48", "an IPv4 address behind a translator"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "a tunnel or reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "an IPv4 address in IPv6"),
        ("3fff::/20", "for documentation"),
    )
)
_GLOBAL_V6 = ip_network("2000::/3")  # all that has been given out


class AddressRefusedError(ToolError):
    """A tool was asked to call an address that it may not call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a tool may call: by default public names over https.

    Attributes:
        hosts: Only these names, and all under those that begin with a dot; None: every public name. A name
            under a suffix that is not public (`.internal`) is called only if it stands here.
        ports: Of public names.
        http: Plain http too.
        networks: Addresses that may be called though they are not public, by any port and over http too.
        max_chars: Longest URL.
    """

    hosts: tuple[str, ...] | None = None
    ports: tuple[int, ...] = (443, 8443)
    http: bool = False
    networks: tuple[Network, ...] = ()
    max_chars: int = MAX_URL_CHARS


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be called, in the parts with which the connection is made: nothing parses it again."""

    scheme: str
    host: str  # without the brackets of IPv6
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The host, and the port if the scheme does not say it: what stands in `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL in its usual form."""
        return f"{self.scheme}://{self.authority}{self.path}"


def flaw_of(address: Address, networks: tuple[Network, ...] = ()) -> str | None:
    """Return what an address is that may not be called, or None for one that may."""
    if any(address in network for network in networks):
        return None
    for network, what in _REFUSED:
        if address in network:
            return what
    return None if address.version == 4 or address in _GLOBAL_V6 else "not public"


def check_url(text: str, reach: Reach) -> Target:
    """Return what a URL points at, as far as its text tells.

    Raises:
        AddressRefusedError: It may not be called; the message is one line that says why.
    """
    target = _parsed(text, reach)
    if isinstance(target, str):
        raise AddressRefusedError(target)
    return target


def _parsed(text: str, reach: Reach) -> Target | str:  # noqa: PLR0911 - a row of gates
    if len(text) > reach.max_chars:
        return f"{len(text)} characters; at most {reach.max_chars}."
    if not text or any(not "!" <= char <= "~" for char in text):
        return "only printable ASCII is allowed; write other names in punycode."
    if "\\" in text:
        return "a backslash is not allowed."
    url = _URL.fullmatch(text)
    if url is None:
        other = _SCHEME.match(text)
        if other and other[0].lower() not in {"http:", "https:"}:
            return f"the scheme {other[0].lower()} is not allowed. Use https:"
        return "not an address. Use https://NAME/PATH."
    if "@" in url["authority"].partition("#")[0]:
        return "a user name or password is not allowed."
    if "#" in text:
        return "a fragment is not allowed."
    authority = _AUTHORITY.fullmatch(url["authority"])
    scheme = url["scheme"].lower()
    usual = 443 if scheme == "https" else 80
    port = int(authority["port"] or usual) if authority and len(authority["port"] or "") <= 9 else -1
    if authority is None or not 0 <= port <= 0xFFFF:
        return "not an address. Use https://NAME/PATH."
    host = unquote(authority["host"]).lower()
    path = url["path"] if url["path"].startswith("/") else "/" + url["path"]
    return _allowed(Target(scheme, host.strip("[]") if host.startswith("[") else host, port, path), reach)


def _allowed(target: Target, reach: Reach) -> Target | str:
    literal = _literal(target.host)
    if literal is None:
        return _wrong_with_name(target, reach) or target
    if isinstance(literal, str) or not any(literal in network for network in reach.networks):
        loopback = not isinstance(literal, str) and literal.is_loopback
        return "the loopback is not allowed." if loopback else "a literal address is not allowed. Use a name."
    return target


def _literal(host: str) -> Address | Literal["odd"] | None:
    """Return the address that a host is, or None for a name; "odd": written as only attackers write one."""
    if host == "localhost":
        return LOOPBACK[0][1]
    if not _NUMBER.fullmatch(host.rpartition(".")[2]) and ":" not in host:
        return None
    try:
        return "odd" if "%" in host else ip_address(host)
    except ValueError:
        return "odd"


def _named(host: str, names: tuple[str, ...]) -> bool:
    return any(host.endswith(name) if name.startswith(".") else host == name for name in names)


def _wrong_with_name(target: Target, reach: Reach) -> str | None:  # noqa: PLR0911 - a row of gates
    host = target.host
    if reach.hosts is not None and not _named(host, reach.hosts):
        return f"{host[:80]!r} is not among the names that may be called."
    if target.scheme != "https" and not reach.http:
        return "http is not allowed. Use https:"
    if target.port not in reach.ports and not (reach.http and target.port == 80):
        return f"port {target.port} is not allowed. Use {' or '.join(map(str, reach.ports))}."
    labels = host.split(".")
    if len(host) > MAX_HOST_CHARS:
        return f"a name of {len(host)} characters; at most {MAX_HOST_CHARS}."
    if not all(_LABEL.fullmatch(label) for label in labels):
        return "the name is malformed."
    if reach.hosts is not None:  # the operator has written it
        return None
    if len(labels) < 2:
        return "a name without a domain is not public."
    if labels[-1] in PRIVATE_SUFFIXES:
        return f"names under .{labels[-1]} are not public."
    mirror = next((name for name in MIRRORS if host == name or host.endswith(f".{name}")), None)
    return None if mirror is None else f"names under {mirror} stand for any address."
