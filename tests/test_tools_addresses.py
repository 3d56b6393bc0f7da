"""Which addresses a tool may call: what a URL says, and what an address is."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.deployment import REPOSITORY
from worker.tools.addresses import LOOPBACK, AddressRefusedError, Reach, check_url, flaw_of

TABLE = json.loads((REPOSITORY / "tests" / "data" / "addresses.json").read_text(encoding="utf-8"))
ONE_MACHINE = Reach(networks=LOOPBACK)


def long(chars: int) -> str:
    return "https://agents.example.com/" + "a" * (chars - 27)


@pytest.mark.parametrize(("given", "kept"), [*TABLE["called"], [long(4096), long(4096)]])
def test_a_public_name_is_called(given: str, kept: str) -> None:
    assert check_url(given, Reach()).url == kept


@pytest.mark.parametrize("given", TABLE["loopback"])
def test_the_loopback_is_called_only_if_it_is_allowed(given: str) -> None:
    assert check_url(given, ONE_MACHINE).url == given
    with pytest.raises(AddressRefusedError, match="the loopback"):
        check_url(given, Reach())


HARSHER = [
    ("https://0177.0.0.1/", "literal"),
    ("https://127.1/", "literal"),
    ("https://2130706433/", "literal"),
    ("https://0x7f000001/", "literal"),
    ("https://[::127.0.0.1]/", "literal"),
    ("https://[fe80::1%25eth0]/", "literal"),
    ("https://[::ffff:a9fe:a9fe]/", "literal"),
    ("https://[v1.a]/", "not an address"),
    ("https://[::1/", "not an address"),
    ("https://::1/", "not an address"),
    ("https://127.0.0.1:80:443/", "not an address"),
    ("https://example.com:+443/", "not an address"),
    ("https://example.com:4 43/", "printable"),
    ("https://example.com%2f@10.0.0.1/", "user name"),
    ("https://example.com%00.evil.example.net/", "malformed"),
    ("https://example%2ecom%2f.evil.net/", "malformed"),
    (f"https://{'a' * 64}.example.com/", "malformed"),
    (f"https://{('a' * 60 + '.') * 5}example.com/", "at most 253"),
    (long(4097), "at most 4096"),
]


@pytest.mark.parametrize(("given", "reason"), [*TABLE["refused"], *HARSHER])
@pytest.mark.parametrize("reach", [Reach(), ONE_MACHINE], ids=["public", "one machine"])
def test_a_hostile_address_is_refused_by_its_text(given: str, reason: str, reach: Reach) -> None:
    if "127" in given and reach is ONE_MACHINE:
        reason += "|literal|not an address"
    with pytest.raises(AddressRefusedError, match=reason):
        check_url(given, reach)


def test_what_the_operator_names_is_called() -> None:
    only = Reach(hosts=("api.example.com", ".example.org", "db.internal"), ports=(443, 5000), http=True)
    for url in ("https://api.example.com/", "http://a.example.org:5000/", "http://db.internal/"):
        assert check_url(url, only).url == url
    for url in ("https://www.example.com/", "https://example.org/", "https://evilexample.org/"):
        with pytest.raises(AddressRefusedError, match="not among the names"):
            check_url(url, only)
    office = Reach(networks=(ip_network("10.1.0.0/16"),))
    assert check_url("http://10.1.2.3:8080/", office).port == 8080
    with pytest.raises(AddressRefusedError, match="literal"):
        check_url("http://10.2.2.3:8080/", office)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("1.1.1.1", None),
        ("172.15.255.255", None),
        ("172.32.0.0", None),
        ("100.63.255.255", None),
        ("100.128.0.0", None),
        ("2606:4700:4700::1111", None),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("10.255.255.255", "private"),
        ("100.64.0.0", "carrier"),
        ("100.100.100.200", "metadata"),
        ("127.255.255.255", "loopback"),
        ("168.63.129.16", "metadata"),
        ("169.254.169.254", "metadata"),
        ("169.254.170.2", "link-local"),
        ("172.16.0.0", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.192", "reserved"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "relay"),
        ("192.168.0.1", "private"),
        ("198.19.255.255", "benchmarks"),
        ("224.0.0.251", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::8.8.8.8", "not public"),
        ("::ffff:8.8.8.8", "IPv4 address in IPv6"),
        ("64:ff9b::8.8.8.8", "translator"),
        ("64:ff9b:1::1", "translator"),
        ("100::1", "not public"),
        ("2001::1", "tunnel"),
        ("2001:db8::1", "documentation"),
        ("2002:7f00:1::1", "IPv4 address in IPv6"),
        ("3fff::1", "documentation"),
        ("fc00::1", "private"),
        ("fd00:ec2::254", "metadata"),
        ("fe80::1", "link-local"),
        ("fec0::1", "not public"),
        ("ff02::1", "multicast"),
    ],
)
def test_only_public_addresses_are_connected_to(address: str, what: str | None) -> None:
    flaw = flaw_of(ip_address(address))
    assert flaw is None if what is None else what in (flaw or "")
    assert flaw_of(ip_address(address), (ip_network(address),)) is None


@given(st.ip_addresses())
def test_what_the_library_knows_as_not_global_is_refused(address: object) -> None:
    one = ip_address(str(address))
    if not one.is_global or one.is_multicast:
        assert flaw_of(one) is not None
