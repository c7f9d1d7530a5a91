"""Fetches published traces: ``python -m mbexp.download burstgpt_1``; verified, resumable, never over a good file."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from mbexp.errors import UserError, as_program, unknown_choice
from mbexp.workload.published import PUBLISHED, Published

ATTEMPTS = 3  # in a row that bring nothing, before giving up
CONNECTIONS = 100  # in all, for a server that breaks off after every few bytes
PAUSE_S = 0.5  # before the next attempt
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 18


class _BrokenOffError(Exception):
    """The connection ended before the file did."""


def fetch(entry: Published, folder: Path, url: str | None = None, say: Callable[[str], None] = print) -> Path:
    """Fetch one file into `folder`, unless it is already there and whole.

    The bytes go to ``<file>.part`` first. Size and SHA-256 are checked, and only then is the file renamed. What was
    received before an interruption is kept, and the next call goes on from there. A file of that name with other
    content is kept under another name.

    Parameters
    ----------
    entry
        What to fetch.
    folder
        Made if it does not exist.
    url
        Where from; None takes ``$MBEXP_DOWNLOAD_BASE/<file>`` where that is set, else the publisher's address.
    say
        Receives sentences for the user.

    Returns
    -------
    Path
        Of the verified file.

    Raises
    ------
    UserError
        If the file has no pinned hash, cannot be fetched or written, or is not what was published.
    """
    if entry.sha256 is None or entry.size_bytes is None:
        raise UserError(
            f"{entry.name}: no hash of it is known here, so a download could not be verified; "
            f"fetch it from {entry.url} and put it into {folder}"
        )
    url = url or _default_url(entry)
    _check_address(url)
    target = folder / entry.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.is_file() and _is_published(target, entry):
            say(f"{target}: already there, {entry.size_bytes:,} bytes, sha256 verified")
            return target
        part = target.with_name(target.name + ".part")
        with _locked(part) as file:
            _receive(url, file, entry, part)
            os.fsync(file.fileno())
        if target.exists():
            aside = _unused_name(target)
            os.rename(target, aside)
            say(f"{target}: was not the published file; it is kept as {aside.name}")
        os.replace(part, target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error})") from None
    say(f"{target}: {entry.size_bytes:,} bytes, sha256 verified; {entry.title}, {entry.licence}")
    return target


def _default_url(entry: Published) -> str:
    base = os.environ.get("MBEXP_DOWNLOAD_BASE", "").strip()
    return f"{base.rstrip('/')}/{entry.file}" if base else entry.url


def _check_address(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = bool(parts.hostname) and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable:
        raise UserError(f"{url}: is no web address")
    if parts.scheme not in ("http", "https"):
        raise UserError(f"{url}: only http and https addresses are fetched")


def _receive(url: str, file: BinaryIO, entry: Published, part: Path) -> None:
    """Fill `file`, from where it ends, until it is the published file."""
    from tqdm import tqdm

    size = entry.size_bytes or 0
    fruitless, started_over = 0, False
    with tqdm(total=size, unit="B", unit_scale=True, desc=entry.name, disable=None, leave=False) as bar:
        for _ in range(CONNECTIONS):
            have = file.seek(0, os.SEEK_END)
            if have < size:
                try:
                    _transfer(url, file, size, lambda received: bar.update(received - bar.n))
                except _BrokenOffError as error:
                    broken = str(error)
                    fruitless = 0 if file.seek(0, os.SEEK_END) > have else fruitless + 1
                    if fruitless >= ATTEMPTS:
                        break
                    time.sleep(PAUSE_S)
                    continue
            file.flush()
            if _is_published(part, entry):
                return
            found, length = _sha256(part), file.seek(0, os.SEEK_END)
            file.truncate(0)
            if not have or started_over:
                raise UserError(
                    f"{url}: is not the published file ({length:,} bytes, sha256 {found}; "
                    f"expected {size:,} bytes, sha256 {entry.sha256}); nothing was kept"
                )
            started_over, broken = True, "it is not the published file"  # the kept beginning may be at fault
    have = file.seek(0, os.SEEK_END)
    raise UserError(
        f"{url}: broke off after {have:,} of {size:,} bytes ({broken}); the same command goes on from there"
    )


def _transfer(url: str, file: BinaryIO, size: int, show: Callable[[int], object]) -> None:
    """Append to `file` what is missing of `size` bytes, or start over where the server cannot resume."""
    have = file.seek(0, os.SEEK_END)
    headers = {"User-Agent": "mbexp", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as response:
            resumes = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if have and not resumes:
                file.truncate(0)
                have = file.seek(0)
                if response.status == 206:
                    raise _BrokenOffError("the server sent another part than was asked for")
            announced = _announced(response)
            if announced is not None and announced != size:
                raise UserError(f"{url}: has {announced:,} bytes, the published file {size:,}; it is another file")
            show(have)
            while block := response.read1(CHUNK_BYTES):  # what has come, without waiting for more
                have += len(block)
                if have > size:
                    file.truncate(0)
                    raise UserError(
                        f"{url}: sends more than the {size:,} bytes of the published file; nothing was kept"
                    )
                file.write(block)
                file.flush()
                show(have)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is here is no beginning of what is there
            file.truncate(0)
            raise _BrokenOffError("the server cannot go on from here") from None
        if error.code >= 500 or error.code == 429:
            raise _BrokenOffError(f"the server answered {error.code} {error.reason}") from None
        raise UserError(f"{url}: the server answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionResetError):
            raise _BrokenOffError(_reason(error.reason)) from None
        host = urllib.parse.urlsplit(url).netloc
        raise UserError(f"{url}: cannot reach {host} ({_reason(error.reason)}); is there a network?") from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _BrokenOffError(_reason(error)) from None
    finally:
        file.flush()
    if have < size:
        raise _BrokenOffError("the server closed the connection")


def _announced(response: http.client.HTTPResponse) -> int | None:
    """Return the length of the whole file that a server announces, or None."""
    if response.status == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    return int(total) if total.isascii() and total.isdigit() else None


def _reason(error: object) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _is_published(path: Path, entry: Published) -> bool:
    return path.stat().st_size == entry.size_bytes and _sha256(path) == entry.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unused_name(target: Path) -> Path:
    names = (target.with_name(f"{target.name}.replaced{number or ''}") for number in range(1000))
    return next(name for name in names if not name.exists())


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """Open a partial file for appending, alone: two downloads must not write into one file."""
    with part.open("a+b") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # not POSIX
            pass
        except BlockingIOError:
            raise UserError(f"{part}: another download of it is running") from None
        try:
            yield file
        except BaseException:
            if not file.seek(0, os.SEEK_END):  # nothing to go on from
                part.unlink(missing_ok=True)
            raise


def _table(folder: Path) -> str:
    lines = [f"{'name':26} {'rows':>10} {'bytes':>12}  {'licence':10} file"]
    for entry in PUBLISHED:
        here = "  (here)" if (folder / entry.file).is_file() else ""
        size = f"{entry.size_bytes:,}" if entry.size_bytes else "?"
        lines.append(f"{entry.name:26} {entry.rows:>10} {size:>12}  {entry.licence:10} {entry.file}{here}")
    lines += ["", "Not fetched by this command, since no hash of them is known here:"]
    lines += [f"{entry.name:26} {entry.url}" for entry in PUBLISHED if entry.sha256 is None]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m mbexp.download",
        description="Fetch published traces and recorded runs. Size and SHA-256 are verified; what broke off goes on.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="traces of --list, such as burstgpt_1")
    parser.add_argument("--list", action="store_true", help="show what can be fetched")
    parser.add_argument("--to", type=Path, default=Path("data"), metavar="DIR", help="folder (default: data)")
    parser.add_argument("--url", help="fetch from this address instead; the hash must be the same")
    given = parser.parse_args(arguments)
    entries = {entry.name: entry for entry in PUBLISHED}
    try:
        if given.list or not given.names:
            print(_table(given.to))
            return 0
        if given.url and len(given.names) > 1:
            raise UserError("--url: is the address of one file; give one name")
        for name in given.names:
            if name not in entries:
                raise unknown_choice("trace", name, entries)
        for name in given.names:
            fetch(entries[name], given.to, given.url)
    except UserError as error:
        print(f"mbexp.download: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mbexp.download: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    as_program(main)
