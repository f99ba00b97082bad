"""Signed notes: the vectors of the reference implementation (golang.org/x/mod/sumdb/note), and what is refused."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concierge.ledger.checkpoints.notes import Checkpoint, NoteError, Signer, Verifier, open_note

VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
# PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz, without the byte of its type.
SEED = base64.b64encode(base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]).decode()
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
NOTE = f"{TEXT}\n— PeterNeumann {SIGNATURE}\n"

PETER = Verifier.from_vkey(VKEY)
OTHER = Signer("other.example/log", base64.b64encode(bytes(32)).decode())


def test_the_reference_note() -> None:
    signer = Signer("PeterNeumann", SEED)
    assert signer.verifier.vkey == VKEY
    assert PETER.vkey == VKEY
    assert signer.sign(TEXT) == NOTE
    assert open_note(NOTE, [OTHER.verifier, PETER]) == (TEXT, [PETER])


def test_signatures_of_others_are_ignored() -> None:
    both = NOTE + OTHER.sign(TEXT).removeprefix(f"{TEXT}\n")
    assert open_note(both, [PETER])[1] == [PETER]
    assert open_note(both, [OTHER.verifier])[1] == [OTHER.verifier]
    assert {verifier.name for verifier in open_note(both, [PETER, OTHER.verifier])[1]} == {
        "PeterNeumann",
        "other.example/log",
    }


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        TEXT,
        NOTE[:-1],
        NOTE + "\n",
        NOTE.replace("— ", "- "),
        NOTE.replace("— ", "—  "),
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("cryptography", "cryptographY"),
        NOTE.replace("\nthen", "\r\nthen"),
        NOTE.replace("is.", "is.\x00"),
        NOTE.replace("PeterNeumann", "Peter Neumann"),
        NOTE.replace("PeterNeumann", "PeterNeuman"),
        NOTE.replace(SIGNATURE, SIGNATURE[:-5] + "AAAM="),
        NOTE.replace(SIGNATURE, "x08goA=="),
        NOTE.replace(SIGNATURE, "x08"),
        NOTE.replace(SIGNATURE, "!" + SIGNATURE[1:]),
        OTHER.sign(TEXT),
        NOTE.replace("is.", "\ud800"),
    ],
)
def test_a_note_that_is_not_well_signed_is_refused(note: str) -> None:
    with pytest.raises(NoteError):
        open_note(note, [PETER])


def test_the_number_of_signatures_is_bounded() -> None:
    line = NOTE.removeprefix(f"{TEXT}\n")
    assert open_note(NOTE + line * 99, [PETER])[1] == [PETER]
    with pytest.raises(NoteError, match="too many"):
        open_note(NOTE + line * 100, [PETER])
    with pytest.raises(NoteError, match="too long"):
        open_note("x" * 1_000_001 + NOTE, [PETER])


@settings(deadline=None)
@given(st.integers(0, len(VKEY) - 1), st.characters(codec="ascii"))
def test_no_changed_vkey_is_taken(place: int, character: str) -> None:
    changed = VKEY[:place] + character + VKEY[place + 1 :]
    if changed != VKEY:
        with pytest.raises(NoteError):
            Verifier.from_vkey(changed)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b"])
def test_a_key_needs_a_name_that_fits_a_line(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Signer(name, SEED)


def test_a_checkpoint_is_three_lines() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    checkpoint = Checkpoint.parse(text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text == text
    assert Checkpoint.parse(text + "an extension\n") == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log\n1\n",
        "log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
        "\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "log\n01\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "log\n-1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "log\n١\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "log\n1\nAAAA\n",
        "log\n1\n!\n",
        "log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.parse(text)
