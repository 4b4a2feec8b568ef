import io
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from perception_gap.data import open_data
from perception_gap.data.images import open_image, open_pictures
from perception_gap.data.reading import Reading
from perception_gap.errors import GapcheckError, UsageError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8))
FEATURES = datasets.Features(
    {
        "prompt": datasets.Value("string"),
        "answer": datasets.Value("int64"),
        "image": datasets.Image(),
        "bbox": datasets.Sequence(datasets.Value("float32")),
        "source": datasets.Value("string"),
    }
)
FIELDS = {"question": "prompt", "boxes": "bbox"}


@pytest.fixture(scope="module")
def table() -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {
            "prompt": ["How many?", "What number?"],
            "answer": [3, None],
            "image": [PICTURE, None],
            "bbox": [[120, 20, 180, 80], None],
            "source": ["x", "y"],
        },
        features=FEATURES,
    )


def opened(spec, folder: Path, fields=FIELDS, **options):
    return open_data(str(spec), work=folder / "run", reading=Reading(None, fields), **options)


def check(data) -> None:
    one, two = data.samples
    assert (one.id, one.question, one.answer) == ("1", "How many?", "3")
    assert one.boxes == ((120, 20, 180, 80),)
    (picture,) = open_pictures(one)
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(PICTURE))
    assert two.boxes == ()
    with pytest.raises(GapcheckError, match="there is none"):
        open_pictures(two)


def test_a_parquet_file_a_saved_data_set_and_a_folder_hold_the_same(table, tmp_path, capsys):
    table.to_parquet(tmp_path / "a.parquet")
    table.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": table.select([0]), "test": table}).save_to_disk(tmp_path / "splits")
    (tmp_path / "folder").mkdir()
    table.to_parquet(tmp_path / "folder" / "test-00000-of-00001.parquet")
    table.select([1]).to_parquet(tmp_path / "folder" / "train-00000-of-00001.parquet")
    capsys.readouterr()
    found = [opened(tmp_path / spec, tmp_path) for spec in ("a.parquet", "saved", "splits:test", "folder:test")]
    for data in found:
        check(data)
    assert len({data.hash for data in found}) == 1
    assert capsys.readouterr().err.count("passed over unknown fields source (in 2 of 2)\n") == 4
    assert len(opened(tmp_path / "a.parquet", tmp_path, limit=1)) == 1


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("splits", r"expected .*splits:train or .*splits:test"),
        ("splits:val", r"expected .*splits:train or .*splits:test"),
        ("saved:train", "has no splits; leave :train out"),
        ("empty", "cannot be read through datasets"),
        ("none.parquet", "no such file"),
        ("damaged.parquet", "cannot be read through datasets"),
    ],
)
def test_what_cannot_be_opened_is_one_line(table, tmp_path, spec, says):
    table.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(tmp_path / "splits")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(UsageError, match=says) as caught:
        opened(tmp_path / spec, tmp_path)
    assert "\n" not in str(caught.value)


def test_columns_that_are_missing_are_named_with_those_that_are_there(table, tmp_path):
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"row 1: no question: expected one of prompt, answer, image, bbox, source as"):
        opened(tmp_path / "a.parquet", tmp_path, fields={})


def test_pictures_as_bytes_paths_and_lists_of_them(tmp_path):
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    PICTURE.save(tmp_path / "b.png")
    rows = pa.table({"question": ["q"], "answer": ["a"], "images": [[file.getvalue()]], "options": [["a", "b"]]})
    pq.write_table(rows, tmp_path / "bytes.parquet")
    named = pa.table({"question": ["q"], "answer": ["a"], "image": ["b.png"], "boxes": [[[1.0, 2.0, 30.0, 40.0]]]})
    pq.write_table(named, tmp_path / "paths.parquet")
    (inside,) = opened(tmp_path / "bytes.parquet", tmp_path, fields={}).samples
    (beside,) = opened(tmp_path / "paths.parquet", tmp_path, fields={}).samples
    assert inside.options == ("a", "b")
    assert beside.images == (tmp_path / "b.png",)
    assert beside.boxes == ((1, 2, 30, 40),)
    for path in (*inside.images, *beside.images):
        np.testing.assert_array_equal(np.asarray(open_image(path)), np.asarray(PICTURE))


def test_a_name_of_the_hub_is_loaded_by_datasets_with_its_split(table, tmp_path, monkeypatch):
    # Offline `load_dataset` takes a folder of that name: the same call, without a hub.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    table.to_parquet("owner/name/test-00000-of-00001.parquet")
    table.select([1]).to_parquet("owner/name/train-00000-of-00001.parquet")
    check(opened("hub:owner/name:test", tmp_path))
    with pytest.raises(UsageError, match="expected hub:owner/name:train or hub:owner/name:test"):
        opened("hub:owner/name", tmp_path)


@pytest.mark.parametrize("spec", ["hub:", "hub:a/b/c/d", "hub:a//b"])
def test_a_name_that_no_data_set_of_the_hub_can_have_is_refused(tmp_path, spec):
    with pytest.raises(UsageError, match=r"expected hub:OWNER/NAME\[/CONFIG\]\[:SPLIT\]"):
        opened(spec, tmp_path)


def test_a_hub_out_of_reach_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="data hub:nobody/nothing:test: cannot be read through datasets") as caught:
        opened("hub:nobody/nothing:test", tmp_path)
    assert "\n" not in str(caught.value)
