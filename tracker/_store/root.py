"""A root and its `.tracker`: made, with every name that leads to it synced.

Knows FORMAT and folders, not what will lie in them.

Spec: spec/layout.md sections 2 and 6.
"""

from pathlib import Path

from tracker._disk import durable
from tracker._model.names import FORMAT, LEDGER, STORE
from tracker.errors import DamagedError, NameRefusedError, VersionError

FORMAT_BYTES = b"tracker 1\n"


def make_store(root: Path) -> None:
    """Make `.tracker` below `root`, and `root` itself with its parents, all synced.

    Crash states: some of the folders, FORMAT cut short or absent; each is taken up where it was left.
    Raises: StorageError.
    """
    refuse_another_format(str(root))
    made = _make_parents(root)
    root_fd = durable.open_root(str(root))
    try:
        durable.make_folder(STORE, root_fd)
        data = FORMAT_BYTES
        if not durable.create(f"{STORE}/{FORMAT}", data, root_fd) and _is_cut(root_fd):
            durable.replace(f"{STORE}/{FORMAT}", data, root_fd, sync=True)
        durable.sync_file(f"{STORE}/{FORMAT}", root_fd)
        durable.make_folder(f"{STORE}/{LEDGER}", root_fd)
        durable.sync_folder(STORE, root_fd)
        durable.sync_folder("", root_fd)
    finally:
        durable.close_read(root_fd)
    for parent in made:
        sync_path(parent)


def refuse_another_format(root: str) -> None:
    """A store that lost its ledger is still a store of its format. Raises: VersionError, DamagedError."""
    if not durable.path_exists(f"{root}/{STORE}/{FORMAT}"):
        return
    root_fd = durable.open_root(root)
    try:
        check_format(durable.read_file(f"{STORE}/{FORMAT}", root_fd), f"{root}/{STORE}/{FORMAT}")
    finally:
        durable.close_read(root_fd)


def _is_cut(root_fd: int) -> bool:
    return durable.is_cut_short(durable.read_file(f"{STORE}/{FORMAT}", root_fd), FORMAT_BYTES)


def _make_parents(root: Path) -> list[Path]:
    """Make `root` and what it lacks above; return the folders that got a new name in them."""
    missing = [folder for folder in (root, *root.parents) if not durable.path_exists(str(folder))]
    try:
        root.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NameRefusedError("root", str(root), "is a file", "choose a folder") from error
    except NotADirectoryError as error:
        raise NameRefusedError("root", str(root), "lies below a file", "choose a folder") from error
    except OSError as error:
        raise durable.as_storage_error(error, str(root), "make") from error
    return [folder.parent for folder in missing]


def make_folder_at(path: Path) -> None:
    """Make a folder with its parents, none of them synced. Raises: StorageError, NameRefusedError."""
    _make_parents(path)


def sync_path(folder: Path) -> None:
    """Sync a folder given by its path. Raises: StorageError."""
    fd = durable.open_root(str(folder))
    try:
        durable.sync_folder("", fd)
    finally:
        durable.close_read(fd)


def inode_of(root: Path) -> tuple[int, int] | None:
    """Device and inode of a folder, or None if it is not there."""
    try:
        status = durable.stat_path(str(root))
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def check_format(data: bytes, where: str) -> None:
    """Accept FORMAT of this version, or one that a crash cut short.

    Raises: VersionError for a newer store; DamagedError for other bytes. Spec: spec/layout.md section 2.
    """
    if data == FORMAT_BYTES or durable.is_cut_short(data, FORMAT_BYTES):
        return
    text = data[:40].decode("utf-8", "replace").strip()
    if text.startswith("tracker "):
        raise VersionError(
            where, text.removeprefix("tracker "), "1", "read it with a newer release of tracker"
        )
    raise DamagedError(
        where,
        f"{text!r} is not 'tracker 1'",
        offset=0,
        spec="spec/layout.md section 2",
        cure="restore it from a copy, or delete it if this is a store of format 1",
    )
