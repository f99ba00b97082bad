"""HTTPS and callable functions as their callers reach them: at their own address and through hosting."""

import asyncio
import socket
from typing import Any

import httpx
import pytest
from support.functions_harness import PROJECT, REGION, Harness


@pytest.fixture
def base(functions: Harness) -> str:
    return f"{functions.front_url}/{PROJECT}/{REGION}"


def post_callable(url: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(url, json=body, headers=headers, timeout=60)


def test_a_request_passes_through_unchanged(base: str) -> None:
    response = httpx.put(
        f"{base}/api/v1/a%2Fb/%C3%BC?x=1&x=%20&status=202", content="grüße".encode(), headers={"X-Custom": "yes"}
    )
    seen = response.json()
    assert response.status_code == 202
    assert response.headers.get_list("x-two") == ["a", "b"]
    assert (seen["method"], seen["path"], seen["query"]) == ("PUT", "/v1/a/b/ü", "x=1&x=%20&status=202")
    assert (seen["body"], seen["header"]) == ("grüße", "yes")
    assert base.startswith(f"http://{seen['host']}/")
    assert (seen["emulator"], seen["project"]) == ("true", PROJECT)
    assert httpx.get(f"{base}/api").json()["path"] == "/"


def test_a_chunked_request_and_a_large_one(base: str) -> None:
    def parts() -> Any:
        yield b"one "
        yield b"two"

    assert httpx.post(f"{base}/api", content=parts()).json()["body"] == "one two"
    large = "x" * 3_000_000
    assert httpx.post(f"{base}/api", content=large.encode(), timeout=60).json()["body"] == large


def test_head_and_an_error_status(base: str) -> None:
    head = httpx.head(f"{base}/api?status=418")
    assert (head.status_code, head.content) == (418, b"")
    assert httpx.get(f"{base}/api?status=204").content == b""


def test_an_answer_is_streamed_as_it_is_made(functions: Harness, base: str) -> None:
    with httpx.stream("GET", f"{base}/api/stream", timeout=60) as response:
        received = ""
        for number, part in enumerate(response.iter_text()):
            received += part
            # The function makes the next part only now, so none is held back on the way.
            assert received == "".join(f"part {each}\n" for each in range(number + 1))
            functions.flag(f"go-{number}")
    assert received.endswith("part 2\n")


def test_a_caller_who_leaves_does_not_disturb_the_next_one(functions: Harness, base: str) -> None:
    with httpx.stream("GET", f"{base}/api/stream", timeout=60) as response:
        next(response.iter_text())
    for number in range(3):
        functions.flag(f"go-{number}")
    assert httpx.get(f"{base}/api").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        f"/{PROJECT}/{REGION}/nothing",
        f"/{PROJECT}/{REGION}/work",
        f"/{PROJECT}/{REGION}/sweep",
        f"/{PROJECT}/{REGION}/request_created",
        f"/other/{REGION}/api",
        f"/{PROJECT}/europe-west1/api",
        "/",
    ],
)
def test_nothing_but_https_functions_is_reachable(functions: Harness, path: str) -> None:
    assert httpx.post(functions.front_url + path, json={"data": {}}).status_code == 404
    assert not functions.record_file.exists()


def test_the_function_answers_for_cors(base: str) -> None:
    preflight = httpx.options(
        f"{base}/cors_api", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    other = httpx.get(f"{base}/cors_api", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_callables(base: str) -> None:
    answer = post_callable(f"{base}/add", {"data": {"a": 1, "b": 2}}, Origin="https://any.example")
    assert answer.json() == {"result": {"sum": 3, "uid": None}}
    assert answer.headers["access-control-allow-origin"] in ("*", "https://any.example")
    refused = post_callable(f"{base}/add", {"data": {"fail": True}})
    assert refused.status_code == 400
    assert refused.json() == {
        "error": {"message": "not now", "status": "FAILED_PRECONDITION", "details": {"reason": "tired"}}
    }
    assert post_callable(f"{base}/add", {"nodata": 1}).json()["error"]["status"] == "INVALID_ARGUMENT"
    unknown = post_callable(f"{base}/add", {"data": {"a": 1, "b": 2}}, Authorization="Bearer nonsense")
    assert unknown.status_code == 401


def test_an_answer_cut_short_is_not_taken_for_a_complete_one(functions: Harness, base: str) -> None:
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("GET", f"{base}/api/stream", timeout=60) as response,
    ):
        for _ in response.iter_text():
            functions.thread.run(functions.host.kill())
    # The next request waits for the next process.
    functions.thread.call(lambda: asyncio.ensure_future(functions.host.restart()))
    assert httpx.get(f"{base}/api", timeout=60).status_code == 200


def test_hosting_serves_files(functions: Harness) -> None:
    site = functions.folder / "site"
    (site / "docs").mkdir(exist_ok=True)
    (site / "index.html").write_text("<h1>home</h1>")
    (site / "docs" / "index.html").write_text("docs")
    (site / "app.js").write_text("let a")
    (site / ".secret").write_text("hidden")
    home = httpx.get(f"{functions.hosting_url}/")
    assert (home.text, home.headers["content-type"]) == ("<h1>home</h1>", "text/html")
    assert httpx.get(f"{functions.hosting_url}/docs").text == "docs"
    assert httpx.get(f"{functions.hosting_url}/app.js").text == "let a"
    assert httpx.get(f"{functions.hosting_url}/app/some/where").text == "<h1>home</h1>"
    for missing in ("/.secret", "/nothing.html", "/app.js/", "/docs/nothing"):
        assert httpx.get(functions.hosting_url + missing).status_code == 404
    assert httpx.post(f"{functions.hosting_url}/app.js").status_code == 404


def test_hosting_rewrites_to_functions_with_the_whole_path(functions: Harness) -> None:
    seen = httpx.post(f"{functions.hosting_url}/api/v1/x?y=1", content=b"body").json()
    assert (seen["path"], seen["query"], seen["body"]) == ("/api/v1/x", "y=1", "body")
    assert httpx.get(f"{functions.hosting_url}/plain").json()["path"] == "/plain"
    assert httpx.post(f"{functions.hosting_url}/task", json={"data": {}}).status_code == 404, "a task is not public"
    assert httpx.get(f"{functions.hosting_url}/apix").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/../firebase.json", "/docs/../../firebase.json", "/%2e%2e/firebase.json", "/..%2ffirebase.json", "/link.json"],
)
def test_hosting_never_leaves_its_folder(functions: Harness, path: str) -> None:
    link = functions.folder / "site" / "link.json"
    if not link.is_symlink():
        link.symlink_to(functions.folder / "firebase.json")
    host, _, port = functions.hosting_url.removeprefix("http://").partition(":")
    # A client library would tidy the path up before it sends it.
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))
    assert b"rewrites" not in answer
