"""The packages of an interpreter, judged by importlib.metadata. Spec: spec/provenance.md section 3."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

from tracker.provenance.packages import list_packages, normalise


def as_importlib_says(search: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(path=search):
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(normalise(name), distribution.version)
    return found


def add(folder: Path, entry: str, name: str, version: str, file: str = "METADATA") -> Path:
    made = folder / entry
    made.mkdir(parents=True)
    (made / file).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not this\n")
    return made


def test_the_packages_of_this_interpreter():
    want = as_importlib_says(sys.path)

    assert len(want) > 20
    assert list_packages(sys.path).versions == want


def test_every_form_of_a_folder(tmp_path):
    add(tmp_path, "plain-1.0.dist-info", "plain", "1.0")
    add(tmp_path, "Some_Thing.x-2.0.1+cu118.dist-info", "Some_Thing.x", "2.0.1+cu118")
    add(tmp_path, "old-name-3.dist-info", "old-name", "3")
    add(tmp_path, "odd-1.0_post1.dist-info", "odd", "1.0-post1")
    add(tmp_path, "egged-4.0-py3.11.egg-info", "egged", "4.0", "PKG-INFO")
    add(tmp_path, "bare.egg-info", "bare", "5.0", "PKG-INFO")
    (tmp_path / "lone-6.0.egg-info").write_text("Metadata-Version: 1.1\nName: lone\nVersion: 6.0\n")
    add(tmp_path / "zipped-7.0-py3.11.egg", "EGG-INFO", "zipped", "7.0", "PKG-INFO")
    search = [str(tmp_path), str(tmp_path / "zipped-7.0-py3.11.egg")]
    want = as_importlib_says(search)

    assert len(want) == 8
    assert list_packages(search).versions == want


def test_what_is_no_package_is_passed_over(tmp_path):
    add(tmp_path, "~lain-1.0.dist-info", "plain", "1.0")
    (tmp_path / "no-name.egg-info").mkdir()
    (tmp_path / "file.zip").write_bytes(b"PK")

    assert list_packages([str(tmp_path), str(tmp_path / "gone"), str(tmp_path / "file.zip")]) == ({}, {})


def test_the_first_on_the_path_counts(tmp_path):
    add(tmp_path / "a", "x-2.dist-info", "x", "2")
    add(tmp_path / "b", "X-1.dist-info", "X", "1")

    assert list_packages([str(tmp_path / "a"), str(tmp_path / "b")]).versions == {"x": "2"}


@pytest.mark.parametrize(
    ("said", "want"),
    [
        (
            {"url": "https://me:pw@h/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            {"vcs": "git", "commit": "abc", "url": "https://h/x.git"},
        ),
        ({"url": "file:///home/ada/x", "dir_info": {"editable": True}}, {"local": True, "editable": True}),
        ({"url": "file:///home/ada/x", "dir_info": {}}, {"local": True}),
        ({"url": "https://h/x.whl?token=abc", "archive_info": {}}, {"url": "https://h/x.whl?token=***"}),
        ({}, {"unreadable": True}),
        ([1], {"unreadable": True}),
        ({"url": "https://h", "vcs_info": {"vcs": "git"}}, {"unreadable": True}),
    ],
)
def test_where_a_package_came_from_that_no_index_gave(tmp_path, said, want):
    (add(tmp_path, "x-1.dist-info", "x", "1") / "direct_url.json").write_text(json.dumps(said))

    assert list_packages([str(tmp_path)]).direct == {"x": want}


def test_what_pip_noted_of_this_checkout_is_told_without_its_path():
    noted = importlib.metadata.distribution("tracker-store").read_text("direct_url.json")
    if noted is None:
        pytest.skip("it was installed from an index")
    told = list_packages(sys.path).direct["tracker-store"]

    assert told.get("editable", False) == json.loads(noted)["dir_info"].get("editable", False)
    assert told["local"] is True
    assert "url" not in told
