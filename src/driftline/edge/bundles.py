"""A device's model files: each named by its SHA-256, checked when the agent starts, removed when nobody wants it."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from driftline.wire.device import BundleFile, Desired

log = logging.getLogger("driftline.edge")


class Bundles:
    """The folder of model files; one that is not what its name says is removed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._there: set[str] = set()
        for path in sorted(folder.iterdir()):
            if path.name == _digest(path):
                self._there.add(path.name)
            else:
                log.warning("the file %s is not what its name says; it is removed", path)
                path.unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        """Return where a file is, or will be."""
        return self._folder / digest

    def arrived(self, digest: str) -> None:
        """Count a file in that has just been downloaded and verified."""
        self._there.add(digest)

    def files(self, desired: Desired) -> dict[str, str]:
        """Return the paths of the wanted files that are here, by digest."""
        there = self._there
        return {file.digest: str(self.path(file.digest)) for file in wanted(desired) if file.digest in there}

    def missing(self, desired: Desired) -> list[BundleFile]:
        """Return the wanted files that are not here yet."""
        return [file for file in wanted(desired) if file.digest not in self._there]

    def prune(self, desired: Desired) -> None:
        """Remove what nobody wants, once everything wanted is here: until then the old may still run."""
        if self.missing(desired):
            return
        keep = {file.digest for file in wanted(desired)}
        for digest in self._there - keep:
            self.path(digest).unlink(missing_ok=True)
        self._there &= keep


def wanted(desired: Desired) -> Iterable[BundleFile]:
    """Yield the files a desired state needs, each once."""
    return {file.digest: file for one in desired.pipelines for file in one.files.values()}.values()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
