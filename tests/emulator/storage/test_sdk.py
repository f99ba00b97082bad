"""What google-cloud-storage asks of Cloud Storage, over the wire."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.api_core.exceptions import (
    BadRequest,
    Forbidden,
    NotFound,
    PreconditionFailed,
    RequestRangeNotSatisfiable,
    ServiceUnavailable,
)
from google.cloud.storage import Bucket

ODD_NAMES = ["a", "a/b/c.txt", "with space", "per%cent", "que?ry#hash", "é/日本", "a+b&c=d", "x" * 1024, "..a", "//a//"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_object_of_any_name_comes_back_as_it_was(bucket: Bucket, name: str) -> None:
    data = bytes(range(256)) * 3
    bucket.blob(name).upload_from_string(data, content_type="application/x-test")
    found = bucket.get_blob(name)
    assert found is not None
    assert (found.size, found.content_type) == (len(data), "application/x-test")
    assert found.download_as_bytes() == data
    assert [blob.name for blob in bucket.list_blobs()] == [name]
    found.delete()
    assert bucket.get_blob(name) is None


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 1025, "a\nb", "a\rb"])
def test_a_name_that_production_refuses_is_refused(server: Any, name: str) -> None:
    answer = httpx.post(
        f"{server.url}/upload/storage/v1/b/{server.server.default_bucket}/o",
        params={"uploadType": "media", "name": name},
        content=b"x",
        trust_env=False,
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)


def test_an_empty_object_exists(bucket: Bucket) -> None:
    bucket.blob("empty").upload_from_string(b"")
    assert bucket.blob("empty").exists()
    assert bucket.blob("empty").download_as_bytes() == b""


def test_generation_zero_lets_exactly_one_writer_in(bucket: Bucket) -> None:
    def create(number: int) -> bool:
        try:
            bucket.blob("one").upload_from_string(str(number), if_generation_match=0)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(8))) == [False] * 7 + [True]


def test_preconditions_are_about_generations(bucket: Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string("1")
    first = blob.generation
    blob.upload_from_string("2", if_generation_match=first)
    assert blob.generation > first
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string("3", if_generation_match=first)
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=first)
    with pytest.raises(PreconditionFailed):
        bucket.blob("a").download_as_bytes(if_metageneration_match=7)
    with pytest.raises(NotFound):
        bucket.blob("a", generation=first).download_as_bytes()
    assert bucket.blob("a").download_as_bytes() == b"2"


def test_metadata_changes_leave_the_content_and_its_generation(bucket: Bucket) -> None:
    blob = bucket.blob("a")
    blob.metadata = {"digest": "abc", "kind": "backup"}
    blob.cache_control = "no-store"
    blob.upload_from_string("content", content_type="text/plain")
    generation = blob.generation
    blob.metadata = {"digest": "def"}
    blob.content_type = "text/html"
    blob.patch()
    found = bucket.get_blob("a")
    assert (found.generation, found.metageneration) == (generation, 2)
    assert found.metadata["digest"] == "def"
    assert (found.content_type, found.cache_control) == ("text/html", "no-store")
    assert found.download_as_bytes() == b"content"


def test_a_wrong_checksum_is_refused(bucket: Bucket) -> None:
    blob = bucket.blob("a")
    blob.md5_hash = "AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(BadRequest):
        blob.upload_from_string("content", checksum=None)
    assert not bucket.blob("a").exists()
    bucket.blob("b").upload_from_string("content", checksum="md5")
    bucket.blob("c").upload_from_string("content", checksum="crc32c")
    assert bucket.blob("c").download_as_bytes(checksum="crc32c") == b"content"


def test_ranges(bucket: Bucket) -> None:
    bucket.blob("a").upload_from_string(b"0123456789")
    blob = bucket.blob("a")
    assert blob.download_as_bytes(start=3, end=5) == b"345"
    assert blob.download_as_bytes(start=8) == b"89"
    assert blob.download_as_bytes(start=8, end=100) == b"89"
    with pytest.raises(RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10, end=20)


def test_listing_by_prefix_delimiter_and_page(bucket: Bucket) -> None:
    names = ["a/1", "a/2", "a/b/3", "a/b/4", "a/c/5", "d", "é"]
    for name in names:
        bucket.blob(name).upload_from_string(name)
    assert [blob.name for blob in bucket.list_blobs(page_size=2)] == names
    listing = bucket.list_blobs(prefix="a/", delimiter="/", page_size=1)
    assert [blob.name for blob in listing] == ["a/1", "a/2"]
    assert sorted(listing.prefixes) == ["a/b/", "a/c/"]
    assert [blob.name for blob in bucket.list_blobs(start_offset="a/b", end_offset="d")] == ["a/b/3", "a/b/4", "a/c/5"]
    assert list(bucket.list_blobs(prefix="nothing")) == []


def test_a_large_object_goes_up_in_pieces(bucket: Bucket) -> None:
    data = bytes(range(256)) * 4096
    blob = bucket.blob("large", chunk_size=256 * 1024)
    blob.upload_from_file(io.BytesIO(data), content_type="application/x-large")
    found = bucket.get_blob("large")
    assert (found.size, found.content_type) == (len(data), "application/x-large")
    assert found.download_as_bytes() == data


def test_an_interrupted_upload_goes_on_where_it_was(server: Any) -> None:
    place = f"{server.url}/upload/storage/v1/b/{server.server.default_bucket}/o"
    with httpx.Client(trust_env=False) as http:
        begun = http.post(place, params={"uploadType": "resumable", "name": "a"}, json={})
        session = begun.headers["Location"]
        asked = http.put(session, headers={"Content-Range": "bytes */*"})
        assert (asked.status_code, asked.headers.get("Range")) == (308, None)
        half = http.put(session, headers={"Content-Range": "bytes 0-3/8"}, content=b"0123")
        assert (half.status_code, half.headers["Range"]) == (308, "bytes=0-3")
        assert http.put(session, headers={"Content-Range": "bytes 6-7/8"}, content=b"67").status_code == 503
        assert http.put(session, headers={"Content-Range": "bytes 2-7/8"}, content=b"234567").status_code == 200
        assert http.put(session, headers={"Content-Range": "bytes */*"}).status_code == 404
    assert server.bucket().blob("a").download_as_bytes() == b"01234567"


def test_copy_and_compose(bucket: Bucket) -> None:
    source = bucket.blob("a")
    source.metadata = {"kind": "original"}
    source.upload_from_string("one", content_type="text/plain")
    bucket.blob("b").upload_from_string("two")
    copy = bucket.copy_blob(source, bucket, "copy")
    assert (copy.download_as_bytes(), copy.content_type, copy.metadata) == (b"one", "text/plain", {"kind": "original"})
    whole = bucket.blob("whole")
    whole.content_type = "text/x-whole"
    whole.compose([bucket.blob("a"), bucket.blob("b")])
    assert whole.download_as_bytes() == b"onetwo"
    with pytest.raises(NotFound):
        bucket.blob("never").compose([bucket.blob("a"), bucket.blob("missing")])


def test_buckets_are_created_on_demand(bucket: Bucket) -> None:
    client = bucket.client
    assert [found.name for found in client.list_buckets()] == [bucket.name]
    client.create_bucket("other")
    client.bucket("other").blob("x").upload_from_string("y")
    assert client.bucket("other").exists()
    with pytest.raises(NotFound):
        client.bucket("missing").blob("x").upload_from_string("y")


def test_clients_are_refused(server: Any) -> None:
    answer = httpx.get(f"{server.url}/v0/b/{server.server.default_bucket}/o/a?alt=media", trust_env=False)
    assert answer.status_code == 403
    with pytest.raises(Forbidden):
        raise Forbidden(answer.json()["error"]["message"])


def test_what_was_written_survives_a_restart(start: Callable[..., Any], tmp_path: Path) -> None:
    first = start(tmp_path)
    bucket = first.bucket()
    bucket.blob("kept/ä").upload_from_string(b"\x00\n\xff", content_type="a/b")
    bucket.blob("gone").upload_from_string("x")
    bucket.blob("gone").delete()
    bucket.client.create_bucket("other")
    generation = bucket.get_blob("kept/ä").generation
    # Every write is through to the store at once: nothing is told to stop first.
    again = start(tmp_path).bucket()
    assert [blob.name for blob in again.list_blobs()] == ["kept/ä"]
    found = again.get_blob("kept/ä")
    assert (found.download_as_bytes(), found.content_type, found.generation) == (b"\x00\n\xff", "a/b", generation)
    assert again.client.bucket("other").exists()
    again.blob("kept/ä").upload_from_string("new")
    assert again.get_blob("kept/ä").generation > generation


def test_faults_strike_before_or_after_the_act(server: Any, bucket: Bucket, quick_retry: Any) -> None:
    server.add_fault(target="storage.POST", action="error")
    with pytest.raises(ServiceUnavailable):
        bucket.blob("a").upload_from_string("x", retry=None)
    assert not bucket.blob("a").exists()
    server.add_fault(target="storage.POST", action="error_after")
    with pytest.raises(ServiceUnavailable):
        bucket.blob("a").upload_from_string("x", retry=None)
    assert bucket.blob("a").exists()
    server.add_fault(target="storage.GET", action="error", count=2)
    assert bucket.blob("a").download_as_bytes(retry=quick_retry) == b"x"
