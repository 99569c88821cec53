"""The manifest of a bundle: what scripts read must be as it was exported; scripts and card may be adapted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.export.manifest import digest_of, read_manifest


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The files of a bundle, as far as the manifest is about them."""
    for name in ("model.xml", "model.bin", "labels.json", "predict.py", "README.md"):
        (tmp_path / name).write_text(name)
    files = {path.name: digest_of(path) for path in tmp_path.iterdir()}
    (tmp_path / "bundle.json").write_text(json.dumps({"kind": "model", "files": files}))
    return tmp_path


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (write("model.bin", "?"), "model.bin is not the file that was exported (its SHA-256 differs)"),
        (write("labels.json", "?"), "labels.json is not the file that was exported (its SHA-256 differs)"),
        (remove("model.bin"), "model.bin is missing there"),
        (remove("bundle.json"), "bundle.json is missing there"),
        (write("bundle.json", "{"), "bundle.json is damaged"),
        (write("bundle.json", "[]"), "bundle.json is damaged"),
        (write("bundle.json", "{}"), "bundle.json is damaged"),
        (
            write("bundle.json", '{"files": {"../labels.json": "0"}}'),
            "../labels.json is not the file that was exported",
        ),
    ],
)
def test_what_was_changed_is_named(change: Callable[[Path], object], said: str, bundle: Path) -> None:
    assert read_manifest(bundle)["kind"] == "model"
    change(bundle)
    with pytest.raises(ValueError, match="bundle ") as refused:
        read_manifest(bundle)
    assert str(refused.value).startswith(f"bundle {bundle}: {said}")


def test_scripts_and_card_may_be_adapted(bundle: Path) -> None:
    write("predict.py", "print()")(bundle)
    remove("README.md")(bundle)
    assert read_manifest(bundle)["kind"] == "model"
