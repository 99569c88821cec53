"""Exporting: one exit of a finished run becomes a bundle, checked before it is there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.ensemble_exit import ExitName
from compress.errors import UsageError, checked
from compress.export.accuracy import accuracy_of
from compress.export.bundle import Bundle, read_bundle
from compress.export.cascade_bundle import write_cascade
from compress.export.form import Form, check_place
from compress.export.manifest import MANIFEST
from compress.export.model_files import write_model
from compress.export.model_runner import open_model
from compress.export.papers import write_papers
from compress.export.parity import check_parity
from compress.export.subject import Subject, subject_of
from compress.inference import Certificate, Policy
from compress.runs import Run, run_and_exit
from compress.signals import heeded


@checked
def export_bundle(
    run: str | os.PathLike[str] | Run,
    exit: ExitName | None = None,
    *,
    out: str | os.PathLike[str],
    policy: Policy | None = None,
    certificate: Certificate | None = None,
    runs: str | os.PathLike[str] = "runs",
    data_dir: Path | None = None,
    **form: Any,
) -> Bundle:
    """Export one exit of a finished run as a directory that runs without this package.

    Nothing is there before the model has given eager's logits and classes on held-out images.

    Args:
        run: a run, its path or id, or RUN:EXIT.
        exit: 1-based, or ``ensemble``; None: the last.
        out: the directory, new or empty.
        policy: when images leave, for a cascade.
        certificate: what is guaranteed of the policy.
        runs: directory of the runs.
        data_dir: where the data are looked for first. Data that are not here are not downloaded; without them an fp32
            model is compared with eager on random pixels.
        form: fields of `Form`: format, precision, input, output, cascade, calibration.

    Raises:
        UsageError: an argument does not fit, the directory is not empty, a package is missing, the data are damaged or
            were changed, the network cannot be exported, or what was exported does not answer as eager does.
    """
    asked, place = Form(**form), Path(out)
    asked.check_installed()
    check_place(place)
    if not asked.cascade and (policy or certificate):
        raise UsageError("policy: it is for a cascade, ask for one with cascade=True")
    found, named = (run, None) if isinstance(run, Run) else run_and_exit(run, Path(runs))
    if exit is not None and named is not None and exit != named:
        raise UsageError(f"exit {exit}: {run} names exit {named}")
    subject = subject_of(found, named if exit is None else exit, asked, data_dir)
    return write_bundle(subject, place, policy, certificate)


def write_bundle(
    subject: Subject, out: Path, policy: Policy | None = None, certificate: Certificate | None = None
) -> Bundle:
    """Write the bundle of a subject into a directory, new or empty; raises UsageError as `export_bundle`."""
    with new_directory(out) as folder:
        if subject.form.cascade:
            write_cascade(subject, policy, certificate, folder)
        else:
            write_one_exit(subject, folder)
    return read_bundle(out)


def write_one_exit(subject: Subject, folder: Path) -> None:
    """Write the bundle of one exit; raises UsageError as `export_bundle`."""
    form = subject.form
    write_model(subject, folder)
    infer = open_model(folder)
    parity = check_parity(infer, subject, f"{subject.run.id} exit {subject.exit}, {form.format} {form.precision}")
    write_papers(subject, folder, parity, accuracy_of(subject, infer))
    del infer  # it may hold files open


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a new directory that becomes `path` at the end; after an error nothing is left of it.

    A directory that is there may be a mount point, a link's target, or where somebody stands: it stays, and the files
    are moved into it, the manifest last.

    Raises:
        UsageError: it cannot be written.
    """
    place = Path(os.path.realpath(path))
    made, moved = [parent for parent in place.parents if not parent.exists()], list[Path]()
    there = place.is_dir()
    temporary = (place if there else place.parent) / f".{place.name}.{os.getpid()}"
    with heeded():
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if not there:
                temporary.rename(place)
                return
            if os.listdir(place) != [temporary.name]:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
            for file in sorted(temporary.iterdir(), key=lambda file: file.name == MANIFEST):
                moved.append(place / file.name)
                file.rename(moved[-1])
            temporary.rmdir()
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            for file in moved:
                file.unlink(missing_ok=True)
            for parent in made:
                with contextlib.suppress(OSError):
                    parent.rmdir()
            if isinstance(error, OSError):
                raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
            raise
