"""Downloads against a local server: whole, resumed, broken off, corrupt, refused, and never over a good file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mbexp import download
from mbexp.download import fetch
from mbexp.errors import UserError
from mbexp.workload.published import PUBLISHED, Published, published_by_file, published_by_sha256
from tests import ROOT

CONTENT = b"Timestamp,Model\r\n" + bytes(range(256)) * 1000
ENTRY = Published(
    name="toy",
    title="A toy trace",
    file="toy.csv",
    url="http://127.0.0.1:1/toy.csv",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    licence="none",
    rows="1",
)


class Server(ThreadingHTTPServer):
    """Serves `content`; what it does wrong is set by attributes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges = True
        self.status: int | None = None
        self.cut_after: list[int] = []  # bytes of the body after which each next connection is dropped
        self.hide_length = False
        self.wrong_part = False
        self.garbage = False
        self.wait = threading.Event()
        self.stall_after: int | None = None
        self.requests: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/toy.csv"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        if server.garbage:
            self.wfile.write(b"no answer of HTTP\r\n\r\n")
            self.close_connection = True
            return
        if server.status is not None:
            self.send_error(server.status)
            return
        start, body = 0, server.content
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            said = 0 if server.wrong_part else start
            self.send_header("Content-Range", f"bytes {said}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        body = body[start:]
        if not server.hide_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cut_after:
            body = body[: server.cut_after.pop(0)]
        if server.stall_after is not None:
            self.wfile.write(body[: server.stall_after])
            self.wfile.flush()
            server.wait.wait(20)
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.wait.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    monkeypatch.delenv("MBEXP_DOWNLOAD_BASE", raising=False)


def quiet(_: str) -> None:
    """Swallow what is said to the user."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fetches_verifies_and_makes_the_folder(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    path = fetch(ENTRY, tmp_path / "a" / "b", server.url, said.append)
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["toy.csv"]
    assert "sha256 verified" in said[0]


def test_good_file_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    fetch(ENTRY, tmp_path, server.url, quiet)
    before = (tmp_path / "toy.csv").stat().st_mtime_ns
    said: list[str] = []
    fetch(ENTRY, tmp_path, server.url, said.append)
    assert len(server.requests) == 1
    assert "already there" in said[0]
    assert (tmp_path / "toy.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_from_a_partial_file(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    (tmp_path / "toy.csv.part").write_bytes(CONTENT[:1000])
    assert fetch(ENTRY, tmp_path, server.url, quiet).read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-"]  # one connection either way: without Range the same answer is used


def test_complete_partial_file_needs_no_server(tmp_path: Path) -> None:
    (tmp_path / "toy.csv.part").write_bytes(CONTENT)
    assert fetch(ENTRY, tmp_path, "http://127.0.0.1:1/x", quiet).read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("kept", [b"x" * 500, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 9)])
def test_wrong_partial_file_is_replaced(server: Server, tmp_path: Path, ranges: bool, kept: bytes) -> None:
    server.ranges = ranges
    (tmp_path / "toy.csv.part").write_bytes(kept)
    assert fetch(ENTRY, tmp_path, server.url, quiet).read_bytes() == CONTENT
    assert names(tmp_path) == ["toy.csv"]


def test_dropped_connections_are_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1000, 2000, 70_000]
    assert fetch(ENTRY, tmp_path, server.url, quiet).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000-", "bytes=3000-", "bytes=73000-"]


def test_gives_up_after_fruitless_attempts_and_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1234, *[0] * 10]
    with pytest.raises(UserError, match=r"broke off after 1,234 of 256,017 bytes .*goes on from there"):
        fetch(ENTRY, tmp_path, server.url, quiet)
    assert (tmp_path / "toy.csv.part").read_bytes() == CONTENT[:1234]
    server.cut_after = []
    assert fetch(ENTRY, tmp_path, server.url, quiet).read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_ends(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "CONNECTIONS", 5)
    server.cut_after = [10] * 20
    with pytest.raises(UserError, match="broke off after 50 of"):
        fetch(ENTRY, tmp_path, server.url, quiet)


@pytest.mark.parametrize("hide_length", [True, False])
@pytest.mark.parametrize(
    "content", [b"<html>log in</html>", CONTENT[:-1], CONTENT[:-1] + b"!", CONTENT + b"!", b"x" * 10_000_000]
)
def test_corrupt_content_is_never_kept_and_never_replaces_a_good_file(
    server: Server, tmp_path: Path, content: bytes, hide_length: bool
) -> None:
    server.content, server.hide_length = content, hide_length
    mine = b"a file of that name, of my own"
    (tmp_path / "toy.csv").write_bytes(mine)
    with pytest.raises(UserError) as caught:
        fetch(ENTRY, tmp_path, server.url, quiet)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "toy.csv").read_bytes() == mine
    if len(content) >= len(CONTENT):
        assert names(tmp_path) == ["toy.csv"]  # nothing of it is taken up next time


def test_wrong_hash_names_both(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(UserError) as caught:
        fetch(ENTRY, tmp_path, server.url, quiet)
    assert str(ENTRY.sha256) in str(caught.value)
    assert hashlib.sha256(server.content).hexdigest() in str(caught.value)


def test_corrupt_after_resuming_starts_over_once(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"!"
    (tmp_path / "toy.csv.part").write_bytes(CONTENT[:500])
    with pytest.raises(UserError, match="is not the published file"):
        fetch(ENTRY, tmp_path, server.url, quiet)
    assert server.requests == ["bytes=500-", None]


def test_other_file_of_that_name_is_kept_aside(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy.csv").write_bytes(b"mine")
    (tmp_path / "toy.csv.replaced").write_bytes(b"older")
    said: list[str] = []
    fetch(ENTRY, tmp_path, server.url, said.append)
    assert (tmp_path / "toy.csv").read_bytes() == CONTENT
    assert (tmp_path / "toy.csv.replaced").read_bytes() == b"older"
    assert (tmp_path / "toy.csv.replaced1").read_bytes() == b"mine"
    assert "kept as toy.csv.replaced1" in said[0]


@pytest.mark.parametrize(("status", "words"), [(404, "the server answered 404"), (503, "503"), (403, "answered 403")])
def test_refusals_are_one_line(server: Server, tmp_path: Path, status: int, words: str) -> None:
    server.status = status
    with pytest.raises(UserError, match=words) as caught:
        fetch(ENTRY, tmp_path, server.url, quiet)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == (download.ATTEMPTS if status == 503 else 1)
    assert names(tmp_path) == []


def test_a_server_that_sends_another_part_is_not_believed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy.csv.part").write_bytes(CONTENT[:1000])
    server.wrong_part = True
    fetch(ENTRY, tmp_path, server.url, quiet)
    assert (tmp_path / "toy.csv").read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", None]  # the part is dropped, and all asked for


def test_an_answer_that_is_not_http_is_one_line(server: Server, tmp_path: Path) -> None:
    server.garbage = True
    with pytest.raises(UserError) as caught:
        fetch(ENTRY, tmp_path, server.url, quiet)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == download.ATTEMPTS
    assert names(tmp_path) == []


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot reach 127\.0\.0\.1:1 .*is there a network"):
        fetch(ENTRY, tmp_path, None, quiet)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/x", "http://", "http://[x", "http://h/a b", "toy", "http://h/é"]
)
def test_addresses_that_are_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"no web address|only http"):
        fetch(ENTRY, tmp_path, url, quiet)


def test_folder_that_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(ENTRY, tmp_path / "file", server.url, quiet)


def test_read_only_folder(server: Server, tmp_path: Path) -> None:
    read_only = tmp_path / "read_only"
    read_only.mkdir(mode=0o500)
    if os.access(read_only, os.W_OK):
        pytest.skip("this user may write into read-only folders")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(ENTRY, read_only, server.url, quiet)


def test_full_disk_is_one_line(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        fetch(ENTRY, tmp_path, server.url, quiet)
    assert not (tmp_path / "toy.csv").exists()


def test_two_downloads_do_not_share_a_partial_file(server: Server, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / "toy.csv.part").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another download"):
            fetch(ENTRY, tmp_path, server.url, quiet)


def test_interrupted_download_is_resumed(server: Server, tmp_path: Path) -> None:
    """A killed process leaves a partial file, no final one, and the next call asks for the rest only."""
    server.stall_after = 100_000
    code = (
        "import sys; from pathlib import Path; from mbexp.download import fetch\n"
        "from tests.test_download import ENTRY; fetch(ENTRY, Path(sys.argv[1]), sys.argv[2])"
    )
    root = ROOT
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), server.url], cwd=root)
    part = tmp_path / "toy.csv.part"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size == server.stall_after):
        time.sleep(0.02)
    process.kill()
    process.wait()
    server.stall_after = None
    server.wait.set()
    assert not (tmp_path / "toy.csv").exists()
    assert part.read_bytes() == CONTENT[:100_000]
    assert fetch(ENTRY, tmp_path, server.url, quiet).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-"]


def test_unpinned_trace_says_where_it_is(tmp_path: Path) -> None:
    unpinned = next(entry for entry in PUBLISHED if entry.sha256 is None)
    with pytest.raises(UserError, match=r"could not be verified.*https://github\.com/Azure"):
        fetch(unpinned, tmp_path, None, quiet)


def test_every_entry_is_sound() -> None:
    for attribute in ("name", "file", "url"):
        values = [getattr(entry, attribute) for entry in PUBLISHED]
        assert len(set(values)) == len(values)
    for entry in PUBLISHED:
        assert entry.url.startswith("https://github.com/")
        assert (entry.sha256 is None) == (entry.size_bytes is None)
        assert entry.sha256 is None or (len(entry.sha256) == 64 and int(entry.sha256, 16) >= 0)
        assert Path(entry.file).name == entry.file
        assert published_by_file(entry.file.upper()) is entry
        if entry.sha256:
            assert published_by_sha256(entry.sha256) is entry
    assert published_by_sha256("0" * 64) is None


class TestCommand:
    def test_mirror_from_the_environment(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(download, "PUBLISHED", (ENTRY, replace(ENTRY, name="other", file="other.csv")))
        monkeypatch.setenv("MBEXP_DOWNLOAD_BASE", f"http://127.0.0.1:{server.server_port}/mirror/")
        assert download.main(["toy", "other", "--to", str(tmp_path)]) == 0
        assert names(tmp_path) == ["other.csv", "toy.csv"]
        assert capsys.readouterr().out.count("sha256 verified") == 2

    def test_url_option(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(download, "PUBLISHED", (ENTRY,))
        assert download.main(["toy", "--to", str(tmp_path), "--url", server.url]) == 0

    def test_list_names_every_trace(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "BurstGPT_1.csv").touch()
        assert download.main(["--list", "--to", str(tmp_path)]) == 0
        shown = capsys.readouterr().out
        for entry in PUBLISHED:
            assert entry.name in shown
            assert entry.file in shown
        assert "BurstGPT_1.csv  (here)" in shown

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["burst_1"], "did you mean 'burstgpt_1'"),
            (["burstgpt_1", "burstgpt_2", "--url", "http://h/x"], "give one name"),
            (["burstgpt_1", "nothing"], "no such choice"),
            (["azure_2024_code"], "no hash of it is known"),
        ],
    )
    def test_mistakes_are_one_line(
        self, arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert download.main([*arguments, "--to", str(tmp_path / "x")]) == 1
        said = capsys.readouterr()
        assert words in said.err
        assert said.err.count("\n") == 1
        assert not said.out

    def test_interrupt(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(download, "fetch", interrupt)
        assert download.main(["burstgpt_1", "--to", str(tmp_path)]) == 130
        assert "goes on from here" in capsys.readouterr().err
