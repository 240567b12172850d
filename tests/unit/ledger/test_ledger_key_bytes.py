"""Keys and passwords as bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.kernel.instants import WallMs
from headway.ledger import keys
from headway.ledger.model import KeyRecord

NOW = WallMs(1_795_521_600_000)


def _record(minted: keys.MintedKey, **more: object) -> KeyRecord:
    return KeyRecord(id=minted.id, digest=minted.digest, principal="prn_1", tenant="t", **more)  # type: ignore[arg-type]


def test_a_minted_key_has_the_documented_form_and_verifies() -> None:
    minted = keys.mint(NOW)
    prefix, body, secret = minted.text.split("_")
    assert (prefix, len(body), len(secret)) == ("hw", 26, 32)
    assert keys.parse(minted.text) == (f"key_{body}", secret)
    assert keys.verify(_record(minted), minted.text)


def test_the_secret_holds_160_bits_and_is_not_in_what_is_stored() -> None:
    low, high = keys.mint(NOW, bytes(10) + bytes(20)), keys.mint(NOW, bytes(10) + b"\xff" * 20)
    assert low.text.endswith("_" + "0" * 32)
    assert high.text.endswith("_" + "z" * 32)
    assert high.text.rpartition("_")[2].encode() not in high.digest
    assert len({keys.mint(NOW).text for _ in range(100)}) == 100


@given(st.integers(0, 91), st.sampled_from("0123456789abcdefghjkmnpqrstvwxyz_XO "))
@settings(max_examples=60)
def test_any_changed_character_fails(at: int, char: str) -> None:
    minted = keys.mint(NOW, bytes(range(30)))
    at %= len(minted.text)
    changed = minted.text[:at] + char + minted.text[at + 1 :]
    assert keys.verify(_record(minted), changed) == (changed == minted.text)


@given(st.text(max_size=100))
def test_no_text_breaks_parse_or_verify(presented: str) -> None:
    presented = presented.encode("utf-8", "replace").decode()
    assert keys.verify(None, presented) is False
    parsed = keys.parse(presented)
    assert parsed is None or presented.startswith("hw_")


def test_a_digest_fits_no_other_id() -> None:
    one, two = keys.mint(NOW), keys.mint(NOW)
    secret = one.text.rpartition("_")[2]
    forged = f"{two.text.rpartition('_')[0]}_{secret}"
    assert not keys.verify(KeyRecord(id=two.id, digest=one.digest, principal="p", tenant="t"), forged)
    assert not keys.verify(_record(one), forged)


def test_an_unknown_id_costs_a_digest_and_a_comparison_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = keys.digest
    monkeypatch.setattr(keys, "digest", lambda identifier, secret: made.append(identifier) or real(identifier, secret))
    for record, presented in ((None, keys.mint(NOW, bytes(30)).text), (None, "nonsense"), (None, "")):
        assert not keys.verify(record, presented)
    assert len(made) == 4  # one by mint, one by each verify


def test_usable_ends_with_expiry_and_revocation() -> None:
    minted = keys.mint(NOW)
    assert keys.usable(_record(minted), NOW)
    assert keys.usable(_record(minted, expires_wall_ms=NOW + 1), NOW)
    assert not keys.usable(_record(minted, expires_wall_ms=NOW), NOW)
    assert not keys.usable(_record(minted, revoked_wall_ms=NOW), NOW)


def test_passwords_keep_their_parameters_and_never_match_without_a_user() -> None:
    stored = keys.hash_password("correct horse", b"s" * 16)
    assert stored.startswith("scrypt$16384$8$5$")
    assert "correct" not in stored
    assert keys.check_password(stored, "correct horse")
    assert not keys.check_password(stored, "correct horsf")
    assert not keys.check_password(None, "")
    weaker = "$".join(["scrypt", "1024", "8", "1", b"salt".hex(), keys._scrypt("old", b"salt", 1024, 8, 1).hex()])
    assert keys.check_password(weaker, "old"), "hashes made with other parameters stay good"


def test_tokens_are_stored_as_digests() -> None:
    token = keys.new_token("hws")
    assert token.startswith("hws_")
    assert token not in keys.token_digest(token)
    assert keys.token_digest(token) == keys.token_digest(token) != keys.token_digest(token + "x")
