"""Networks of addresses and their keyed hashes."""

import pytest

from egec_cli.context import Context
from egec_cli.errors import InvalidInput
from egec_cli.origins import networks
from egec_cli.store.models import Installation


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("192.0.2.255", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("::ffff:c000:207", "192.0.2.0/24"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:DB8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert networks.parse_network(address) == network


@pytest.mark.parametrize(
    "text",
    ["", " ", "192.0.2", "192.0.2.7:80", "[2001:db8::7]", "192.0.2.0/24", "host", "192.0.2.07", "١٩٢.0.2.7", "1" * 500],
)
def test_anything_else_is_not_an_address(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        networks.parse_network(text)
    assert refused.value.code == "invalid_origin"
    assert not text.strip() or text not in refused.value.message


def test_a_host_name_counts_as_it_is() -> None:
    assert networks.parse_network_or_name("Mail.Example.org") == "mail.example.org"
    assert networks.parse_network_or_name("192.0.2.7") == "192.0.2.0/24"
    assert len(networks.parse_network_or_name("x" * 1000)) == 255


def test_the_hash_of_a_network_depends_on_a_key_that_each_database_makes_once(opened: Context) -> None:
    first = networks.hash_text(opened, "192.0.2.0/24")
    assert networks.hash_text(opened, "192.0.2.0/24") == first
    assert networks.hash_text(opened, "198.51.100.0/24") != first
    [key] = [row.value for row in Installation.select().where(Installation.name == "origin_key")]
    assert len(key) == 64
    Installation.update(value="00" * 32).where(Installation.name == "origin_key").execute()
    assert networks.hash_text(opened, "192.0.2.0/24") != first
    assert len(first) == 12
