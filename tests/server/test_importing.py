"""`yunying import`: what is stored, skipped or refused, and going on after a break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from archive.query.domain import Query
from archive.query.service import Catalog
from kernel.db.database import Database
from kernel.errors import Invalid
from kernel.scope import Scope
from kernel.settings import Settings
from server.importing import Summary, import_folder

SCOPE = Scope.system("test")


def instance(study: str = "", **values: object) -> Dataset:
    """A small CT instance."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = pydicom.uid.CTImageStorage, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study or generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID, ds.Modality = "Wang^Xiaoming=王^小明", "P1", "CT"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def write(ds: Dataset, path: Path) -> None:
    """Save with preamble and group 0002."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three instances of one study in two folders, and what lies around on a CD."""
    study, root = generate_uid(), tmp_path / "cd"
    for n in range(3):
        write(instance(study, InstanceNumber=n), root / f"d{n % 2}" / f"i{n}")
    (root / "readme.txt").write_text("This disc holds images. " * 40)
    (root / "empty").touch()
    (root / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(2000))
    return root


async def test_instances_are_stored_and_findable(
    settings: Settings, database: Database, folder: Path
) -> None:
    summary = await import_folder(settings, folder)
    assert (summary.stored, summary.duplicate, summary.refused.total()) == (3, 0, 0)
    page = await (await Catalog.open(database)).search(SCOPE, Query("STUDY", {0x00100010: "王*"}))
    assert len(page.matches) == 1


async def test_what_is_no_instance_is_skipped_with_its_reason(
    settings: Settings, folder: Path, shared_data: Path
) -> None:
    dicomdir = next((shared_data / "dicom" / "dicomdir").rglob("DICOMDIR"))
    shutil.copyfile(dicomdir, folder / "DICOMDIR")
    summary = await import_folder(settings, folder)
    assert summary.stored == 3
    assert summary.skipped["not a DICOM file"] == 2
    assert summary.skipped["empty file"] == 1
    assert [why for why in summary.skipped if why.startswith("DICOMDIR")]
    assert summary.files == 7


async def test_a_second_import_reads_nothing_again(settings: Settings, folder: Path) -> None:
    await import_folder(settings, folder)
    write(instance(), folder / "new")
    second = await import_folder(settings, folder)
    assert (second.stored, second.duplicate, second.before) == (1, 0, 3)


async def test_again_reads_everything_and_finds_duplicates(
    settings: Settings, folder: Path
) -> None:
    await import_folder(settings, folder)
    second = await import_folder(settings, folder, again=True)
    assert (second.stored, second.duplicate, second.before) == (0, 3, 0)


async def test_an_import_that_broke_off_goes_on_where_it_was(
    settings: Settings, folder: Path
) -> None:
    class Enough(Exception):
        pass

    def stop_early(summary: Summary, _total: int) -> None:
        if summary.stored == 1:
            raise Enough

    with pytest.raises(Enough):
        await import_folder(settings, folder, progress=stop_early)
    rest = await import_folder(settings, folder)
    assert rest.before >= 1
    assert rest.before + rest.stored + rest.duplicate == 3


async def test_what_has_no_identity_is_kept_aside_and_said(
    settings: Settings, tmp_path: Path
) -> None:
    orphan = instance()
    del orphan.StudyInstanceUID
    write(orphan, tmp_path / "orphan" / "a.dcm")
    summary = await import_folder(settings, tmp_path / "orphan")
    assert summary.stored == 0
    (why,) = summary.refused
    assert why.startswith("kept aside") and "StudyInstanceUID" in why.replace(" ", "")


async def test_an_instance_without_preamble_is_stored(settings: Settings, tmp_path: Path) -> None:
    write(instance(), tmp_path / "whole.dcm")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "a").write_bytes((tmp_path / "whole.dcm").read_bytes()[132:])
    summary = await import_folder(settings, bare)
    assert summary.stored == 1


async def test_an_instance_larger_than_a_buffer_streams(settings: Settings, tmp_path: Path) -> None:
    large = instance(PixelData=bytes(17 << 20), Rows=1, Columns=1)
    large["PixelData"].VR = "OW"
    write(large, tmp_path / "large" / "a.dcm")
    assert (await import_folder(settings, tmp_path / "large")).stored == 1


async def test_malformed_files_disturb_nothing_else(
    settings: Settings, folder: Path, shared_data: Path
) -> None:
    shutil.copytree(shared_data / "dicom" / "malformed", folder / "malformed")
    number = sum(path.is_file() for path in (folder / "malformed").rglob("*"))
    summary = await import_folder(settings, folder)
    assert summary.files == 6 + number
    assert summary.stored >= 3
    assert all(summary.refused) and all(summary.skipped)  # each with its reason


async def test_a_folder_that_is_none_is_said_in_words(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is not a folder"):
        await import_folder(settings, tmp_path / "nowhere")


async def test_the_state_file_names_no_file(settings: Settings, tmp_path: Path) -> None:
    write(instance(), tmp_path / "cd" / "WANG_XIAOMING_19800101.dcm")
    await import_folder(settings, tmp_path / "cd")
    kept = b"".join(path.read_bytes() for path in (settings.data / "import").iterdir())
    assert b"WANG" not in kept and len(kept) == 33
