"""Firebase Hosting: static files and rewrites of firebase.json (official port 5000).

Understood of `hosting`: `public`, `ignore`, `rewrites` (`source` or `regex`; to a `function` or a `destination`),
`cleanUrls`. Order, as documented: an exact static file, then the first rewrite that matches, then 404.html.
Source: https://firebase.google.com/docs/hosting/full-config
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from emulator.triggers.host import FunctionsHost
from emulator.triggers.proxy import proxy
from emulator.web import RunningServer, serve

_GLOB_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|@\(|.", re.DOTALL)
_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_GROUPS = {"{": ("}", ","), "@(": (")", "|")}


def glob_regex(glob: str) -> re.Pattern[str]:
    """A glob of firebase.json: `*` in a segment, `**` over segments, `{a,b}`, `@(a|b)`; a leading slash is optional.

    Raises ValueError for a group that is not closed.
    """
    parts = ["/?"]
    closing, separator = "", ""
    for token in _GLOB_TOKEN.findall(glob.removeprefix("/")):
        if not closing and token in _GROUPS:
            closing, separator = _GROUPS[token]
            parts.append("(?:")
        elif token == closing:
            closing, separator = "", ""
            parts.append(")")
        elif token == separator:
            parts.append("|")
        else:
            parts.append(_WILDCARDS.get(token) or re.escape(token))
    if closing:
        raise ValueError(f"hosting: {closing!r} is missing in {glob!r}")
    return re.compile("".join(parts), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Paths that match go to a function, or are answered with the file at `destination`."""

    pattern: re.Pattern[str]
    function: str | None
    destination: str | None

    def matches(self, path: str) -> bool:
        return self.pattern.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class HostingConfig:
    public: Path
    ignore: tuple[re.Pattern[str], ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    clean_urls: bool = False


def parse(config: dict[str, Any], folder: Path) -> HostingConfig:
    """Reads one hosting object whose paths are relative to `folder`. Raises ValueError for a rewrite to nowhere."""
    rewrites = []
    for rewrite in config.get("rewrites", []):
        function = rewrite.get("function")
        if isinstance(function, dict):
            function = function["functionId"]
        destination = rewrite.get("destination")
        if function is None and destination is None:
            raise ValueError(f"hosting: a rewrite needs a function or a destination: {rewrite}")
        if "regex" in rewrite:
            pattern = re.compile(f".*?(?:{rewrite['regex']}).*", re.DOTALL)
        else:
            pattern = glob_regex(rewrite["source"])
        rewrites.append(Rewrite(pattern, function, destination))
    return HostingConfig(
        public=(folder / config.get("public", "public")).resolve(),
        ignore=tuple(glob_regex(glob) for glob in config.get("ignore", [])),
        rewrites=tuple(rewrites),
        clean_urls=bool(config.get("cleanUrls")),
    )


def load(firebase_json: Path) -> HostingConfig | None:
    """The (first) hosting site of a firebase.json; None if it has none. Raises OSError, ValueError."""
    sites = json.loads(firebase_json.read_text(encoding="utf-8")).get("hosting") or []
    if isinstance(sites, dict):
        sites = [sites]
    return parse(sites[0], firebase_json.parent) if sites else None


class Hosting:
    """The web server of one site."""

    def __init__(self, *, config: HostingConfig, host: FunctionsHost) -> None:
        self._config = config
        self._host = host
        self._server: RunningServer | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 5000) -> RunningServer:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._handle)
        self._server = await serve(app, host, port)
        return self._server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method in ("GET", "HEAD") and (file := self._file(request.path)) is not None:
            return web.FileResponse(file)
        for rewrite in self._config.rewrites:
            if not rewrite.matches(request.path):
                continue
            if rewrite.function is not None:
                return await self._call(request, rewrite.function)
            if request.method in ("GET", "HEAD") and (file := self._file(rewrite.destination or "")) is not None:
                return web.FileResponse(file)
            break
        not_found = self._file("404.html")
        page = not_found.read_bytes() if not_found is not None else b"<h1>404</h1>Page not found\n"
        return web.Response(status=404, body=page, content_type="text/html")

    async def _call(self, request: web.Request, function: str) -> web.StreamResponse:
        spec = self._host.functions.get(function)
        if spec is None or not spec.reachable:
            return web.Response(status=404, text=f"Function {function} does not exist\n")
        # Unlike at its own address, a function behind a rewrite sees the whole path.
        return await proxy(request, self._host, function, request.raw_path)

    def _file(self, path: str) -> Path | None:
        """The public file at a decoded path, or None. Nothing outside of the public folder is ever found."""
        segments = [segment for segment in path.split("/") if segment]
        if any(segment in (".", "..") or "\\" in segment or "\0" in segment for segment in segments):
            return None
        relative = "/".join(segments)
        if any(pattern.fullmatch(relative) for pattern in self._config.ignore):
            return None
        for candidate in self._candidates(self._config.public.joinpath(*segments), path):
            # A symbolic link may still lead out.
            resolved = candidate.resolve()
            if resolved.is_file() and resolved.is_relative_to(self._config.public):
                return resolved
        return None

    def _candidates(self, file: Path, path: str) -> Sequence[Path]:
        if path.endswith("/") or path == "":
            return [file / "index.html"]
        clean = [file.with_name(f"{file.name}.html")] if self._config.clean_urls else []
        return [file, *clean, file / "index.html"]
