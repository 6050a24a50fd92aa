"""The static files, held in memory with their compressed forms. Their address holds a checksum of all of them."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.responses import Response

from tokenbridge.errors import NotFound

ROOT: Final = Path(__file__).parent.parent / "static"
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
FOREVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticFile:
    plain: bytes
    packed: bytes
    media_type: str


class StaticFiles:
    """The files below `root` that have a known type. An address never changes what it means, so it is kept for good."""

    def __init__(self, root: Path = ROOT) -> None:
        found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.suffix in TYPES}
        self._files = {name: _read(path) for name, path in found.items()}
        digest = hashlib.sha256()
        for name, file in self._files.items():
            digest.update(f"{name}\0{len(file.plain)}\0".encode() + file.plain)
        self.base = f"/static/{digest.hexdigest()[:16]}"

    def address(self, name: str) -> str:
        """The path of a file on the site. Raises KeyError for a file that is not there: a mistake in a template."""
        self._files[name]
        return f"{self.base}/{name}"

    def file(self, name: str) -> Response:
        """A file that has an address beside the usual one, uncompressed and without any word about keeping it."""
        found = self._files[name]
        return Response(found.plain, headers={"content-type": found.media_type})

    def answer(self, digest: str, name: str, accepted: str) -> Response:
        """`accepted` is the request's Accept-Encoding. Raises `NotFound`."""
        file = self._files.get(name)
        if file is None or self.base != f"/static/{digest}":
            raise NotFound
        packed = "gzip" in accepted
        headers = {"cache-control": FOREVER, "vary": "accept-encoding", "content-type": file.media_type}
        if packed:
            headers["content-encoding"] = "gzip"
        return Response(file.packed if packed else file.plain, headers=headers)


def _read(path: Path) -> StaticFile:
    plain = path.read_bytes()
    return StaticFile(plain=plain, packed=gzip.compress(plain, mtime=0), media_type=TYPES[path.suffix])
