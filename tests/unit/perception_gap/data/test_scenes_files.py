import json

import numpy as np
import pytest
from PIL import Image

from perception_gap.data.scenes import scene
from perception_gap.data.scenes_files import choose_tasks, write_scenes
from perception_gap.errors import GapcheckError, UsageError


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "images").iterdir()}


def test_images_and_records_are_those_of_the_scenes(tmp_path):
    rows = [json.loads(line) for line in write_scenes(tmp_path, ["attribute"], 3).read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"attribute-heldout-0-{i:06d}" for i in range(3)]
    for i, row in enumerate(rows):
        drawn = scene("attribute", i)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / row["image"])), drawn.image)
        assert row == drawn.record(row["image"])


def test_more_scenes_only_add_and_fewer_keep_the_first(tmp_path):
    few = write_scenes(tmp_path, ["pairs", "iq"], 4).read_text()
    before = stamps(tmp_path)
    more = write_scenes(tmp_path, ["pairs", "iq"], 7).read_text()
    assert more.startswith(few)
    assert len(more.splitlines()) == 7
    assert before.items() <= stamps(tmp_path).items()
    assert write_scenes(tmp_path, ["iq", "pairs"], 4).read_text() == few


def test_a_finished_folder_is_reused_and_a_damaged_one_repaired(tmp_path):
    rows = write_scenes(tmp_path, ["iq"], 3)
    first, second, third = sorted((tmp_path / "images").iterdir())
    good, before = second.read_bytes(), stamps(tmp_path)
    write_scenes(tmp_path, ["iq"], 3)
    assert stamps(tmp_path) == before
    first.unlink()
    second.write_bytes(good[:1000])
    write_scenes(tmp_path, ["iq"], 3)
    assert second.read_bytes() == good
    assert stamps(tmp_path)[third.name] == before[third.name]
    rows.write_text("")
    assert len(write_scenes(tmp_path, ["iq"], 3).read_text().splitlines()) == 3


def test_another_seed_or_split_in_the_same_folder_replaces_the_records(tmp_path):
    write_scenes(tmp_path, ["iq"], 2)
    rows = write_scenes(tmp_path, ["iq"], 2, "train", 5).read_text()
    assert '"iq-train-5-000001"' in rows
    assert "heldout" not in rows


def test_no_temporary_file_stays_behind(tmp_path):
    write_scenes(tmp_path, ["iq"], 2)
    assert {p.name for p in tmp_path.iterdir()} == {"images", "scenes.jsonl", "scenes.json"}
    assert all(p.suffix == ".png" for p in (tmp_path / "images").iterdir())


def test_tasks_come_once_each_in_the_order_of_the_suite():
    assert choose_tasks(["pairs", "attribute", "pairs"]) == ("attribute", "pairs")
    assert len(choose_tasks(["all"])) == 6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((["colour"], 3), "unknown scenes task 'colour': expected one of attribute, "),
        (([], 3), "no scenes task"),
        ((["iq"], 0), "0 scenes"),
        ((["iq"], 3, "test"), "unknown scenes split 'test': expected one of train, heldout"),
        ((["iq"], 3, "train", -1), "seed -1"),
    ],
)
def test_wrong_arguments_say_what_was_expected(tmp_path, arguments, says):
    with pytest.raises(UsageError) as caught:
        write_scenes(tmp_path, *arguments)
    assert says in str(caught.value)


def test_an_unwritable_folder_is_an_error_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GapcheckError, match=r"cannot write .*file/below \(Not a directory\)"):
        write_scenes(tmp_path / "file" / "below", ["iq"], 1)
