"""Data in every layout that users have, and in every way they can be broken."""

from __future__ import annotations

import csv
import io
import os
import shutil
import socket
import time
from functools import cache
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, Image, List
from PIL import Image as PillowImage

from benchmarks.suites import sources
from benchmarks.suites.catalog import definition
from benchmarks.suites.docs import Docs, open_docs, undecoded
from perception_gap.errors import GapcheckError, UsageError
from tests.benchmark_data import TEXT, blink, encoded, hrbench, mmstar, mmvp, parquet, picture, vstar

VSTAR = "vstar_bench_direct_attributes"
JIGSAW = "blink_jigsaw"
task = cache(definition)  # the first reads lmms-eval's whole index, which collecting the tests must not wait for


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    """No test answers from what another one left, and none reaches the hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    sources._refusal.cache_clear()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def pixels(image) -> bytes:
    return image.convert("RGB").tobytes()


def png(seed: int, **options) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG", **options)
    return buffer.getvalue()


def rows(table: datasets.Dataset, **changes) -> datasets.Dataset:
    """The table with other values in some columns."""
    table = undecoded(table)
    columns = {name: changes.get(name, table[name][:]) for name in table.column_names}
    return datasets.Dataset(pa.Table.from_pydict(columns, schema=table.features.arrow_schema))


# Layouts


@pytest.mark.parametrize(
    "place",
    [
        "lmms-lab-encoder/vstar-bench", "vstar-bench", "lmms-lab-encoder--vstar-bench",
        "datasets--lmms-lab-encoder--vstar-bench/snapshots/0a1b2c",
    ],
)  # fmt: skip
def test_a_data_set_is_found_in_every_layout(root, place):
    vstar(root / place, 3)
    docs = open_docs(VSTAR, task(VSTAR), root)
    assert [docs[i]["question_id"] for i in range(len(docs))] == ["0", "2", "4"]
    assert pixels(docs[1]["image"]) == pixels(picture(102))


@pytest.mark.parametrize("name", ["data/test-00000-of-00001", "test-00000-of-00001", "data/test", "test"])
def test_a_split_is_found_under_every_file_name(root, name):
    vstar(root / "vstar-bench", 1)
    target = root / "vstar-bench" / f"{name}.parquet"
    os.replace(root / "vstar-bench/data/test-00000-of-00001.parquet", target)
    assert len(open_docs(VSTAR, task(VSTAR), root)) == 1


@pytest.mark.parametrize("name", ["Jigsaw/val-00000-of-00001", "data/Jigsaw/val-00000-of-00001", "Jigsaw/val"])
def test_a_subset_is_found_under_every_file_name(root, name):
    blink(root / "BLINK", "Jigsaw", 2)
    blink(root / "BLINK", "Counting", 3)
    target = root / "BLINK" / f"{name}.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(root / "BLINK/Jigsaw/val-00000-of-00001.parquet", target)
    docs = open_docs(JIGSAW, task(JIGSAW), root)
    assert [docs[i]["idx"] for i in range(len(docs))] == ["val_Jigsaw_1", "val_Jigsaw_2"]


def test_a_parquet_file_that_datasets_did_not_write_has_pictures_too(root):
    mmstar(root / "MMStar", 2)
    path = root / "MMStar" / "mmstar.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    docs = open_docs("mmstar", definition("mmstar"), root)
    assert pixels(docs[1]["image"]) == pixels(picture(301))


def test_files_with_names_of_their_own_are_found(root):
    mmstar(root / "MMStar", 2)
    hrbench(root / "HR-Bench", 3)
    assert len(open_docs("mmstar", definition("mmstar"), root)) == 2
    assert len(open_docs("hrbench4k", definition("hrbench4k"), root)) == 3


def test_of_cached_revisions_the_current_one_is_read(root):
    cached = root / "datasets--lmms-lab-encoder--vstar-bench"
    vstar(cached / "snapshots" / "aaa", 1)
    vstar(cached / "snapshots" / "bbb", 2)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("bbb\n")
    assert len(open_docs(VSTAR, task(VSTAR), root)) == 2


def test_shards_are_read_in_order_and_a_missing_one_is_said(root):
    vstar(root / "whole", 2)
    whole = undecoded(datasets.Dataset.from_parquet(str(root / "whole/data/test-00000-of-00001.parquet")))
    folder = root / "vstar-bench" / "data"
    folder.mkdir(parents=True)
    for k in (1, 0):
        whole.select([2 * k, 2 * k + 1]).to_parquet(str(folder / f"test-0000{k}-of-00002.parquet"))
    docs = open_docs(VSTAR, task(VSTAR), root)
    assert [docs[i]["question_id"] for i in range(2)] == ["0", "2"]
    (folder / "test-00000-of-00002.parquet").unlink()
    with pytest.raises(UsageError, match=r"has 1 of the files test-\*-of-00002.parquet; fetch it again with `hf down"):
        open_docs(VSTAR, task(VSTAR), root)


@pytest.mark.parametrize("place", ["MMVP", "lmms-lab-eval/MMVP", "MMVP/MMVP", "datasets--MMVP--MMVP/snapshots/0a1b"])
def test_mmvp_is_read_as_its_authors_publish_it(root, place):
    mmvp(root / place, 4)
    docs = open_docs("mmvp", task("mmvp"), root)
    assert [docs[i]["Index"] for i in range(4)] == [1, 2, 3, 4]
    assert [docs[i]["Correct Answer"] for i in range(4)] == ["(a)", "(b)", "(a)", "(b)"]
    assert docs[2]["Options"] == "(a) Open (b) Closed"
    with PillowImage.open(root / place / "MMVP Images" / "3.jpg") as image:
        assert pixels(docs[2]["image"]) == pixels(image)


def test_v_star_is_split_by_category(root):
    vstar(root / "vstar-bench", 3)
    for task, ids in {"direct_attributes": ["0", "2", "4"], "relative_position": ["1", "3", "5"]}.items():
        docs = open_docs("v", definition(f"vstar_bench_{task}"), root)
        assert [docs[i]["question_id"] for i in range(len(docs))] == ids
        assert {docs[i]["category"] for i in range(len(docs))} == {task}
    assert len(open_docs("v", definition("vstar_bench"), root)) == 6


def test_a_folder_is_read_without_a_look_at_the_network(root, monkeypatch):
    asked = []

    def look_up(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "no network")

    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    vstar(root / "vstar-bench", 1)
    assert len(open_docs(VSTAR, task(VSTAR), root)) == 1
    assert asked == []


# Data that are missing


@pytest.mark.parametrize(
    ("task", "repo"),
    [
        ("mmvp", "lmms-lab-eval/MMVP"), ("vstar_bench_direct_attributes", "lmms-lab-encoder/vstar-bench"),
        ("blink_iq_test", "BLINK-Benchmark/BLINK"), ("mmstar", "Lin-Chen/MMStar"), ("hrbench4k", "DreamMr/HR-Bench"),
    ],
)  # fmt: skip
def test_missing_data_name_the_folders_and_the_command(root, task, repo):
    with pytest.raises(UsageError) as error:
        open_docs(task, definition(task), root)
    short = repo.partition("/")[2]
    assert str(error.value) == (
        f"task {task}: neither {root / repo} nor {root / short} is there: "
        f"fetch it with `hf download {repo} --repo-type dataset --local-dir {root / repo}`"
    )


def test_a_folder_without_the_split_names_the_files_it_lacks(root):
    (root / "MMStar").mkdir()
    with pytest.raises(UsageError, match=r"/MMStar has no mmstar\.parquet: fetch it with `hf download Lin-Chen/MMStar"):
        open_docs("mmstar", definition("mmstar"), root)


@pytest.mark.parametrize("name", ["absent", "file"])
def test_a_data_root_that_is_no_folder_is_said(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=rf"--data-root .*{name}: is no folder; expected one folder a data set"):
        open_docs("mmvp", task("mmvp"), tmp_path / name)


def test_v_star_without_its_category_column_is_refused(root):
    vstar(root / "vstar-bench", 1)
    path = root / "vstar-bench/data/test-00000-of-00001.parquet"
    table = undecoded(datasets.Dataset.from_parquet(str(path)))
    table.remove_columns("category").to_parquet(str(path))
    with pytest.raises(UsageError, match="vstar_bench_direct_attributes: its data have no column category"):
        open_docs(VSTAR, task(VSTAR), root)


def test_data_without_rows_are_refused(root):
    vstar(root / "vstar-bench", 1)
    with pytest.raises(UsageError, match="task v: its data have no rows"):
        open_docs("v", task(VSTAR) | {"dataset_kwargs": {"category": "none"}}, root)


# The hub


def seconds_of_refusal(task: str = "vstar_bench_direct_attributes") -> tuple[float, str]:
    start = time.perf_counter()
    with pytest.raises(UsageError) as error:
        open_docs(task, definition(task), None)
    return time.perf_counter() - start, str(error.value)


def test_an_unreachable_hub_fails_at_once_in_one_line():
    seconds, text = seconds_of_refusal()
    assert seconds < 5  # `datasets` alone takes 23 s
    assert "does not come from the hub" in text
    assert "hf download lmms-lab-encoder/vstar-bench --repo-type dataset --local-dir DATA/lmms-lab-encoder/" in text
    assert text.endswith("then --data-root DATA")
    assert "\n" not in text


def test_a_hub_that_never_answers_is_left_soon(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(sources, "_PROBE_SECONDS", 0.5)
        seconds, text = seconds_of_refusal()
    assert seconds < 5
    assert "timed out" in text


def test_offline_mode_is_said(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    seconds, text = seconds_of_refusal()
    assert seconds < 5
    assert "offline mode is enabled" in text


def test_an_unreachable_hub_is_asked_once_for_all_tasks_of_a_data_set(monkeypatch):
    asked = []
    probe = sources.HfApi.dataset_info
    monkeypatch.setattr(sources.HfApi, "dataset_info", lambda *a, **k: (asked.append(a[1]), probe(*a, **k))[1])
    for task in ("blink_jigsaw", "blink_counting", "mmstar"):
        seconds_of_refusal(task)
    assert asked == ["BLINK-Benchmark/BLINK", "Lin-Chen/MMStar"]


def test_without_a_hub_its_cache_is_read(tmp_path):
    vstar(tmp_path / "hub-cache/datasets--lmms-lab-encoder--vstar-bench/snapshots/0a1b", 2)
    assert len(open_docs(VSTAR, task(VSTAR), None)) == 2


def test_without_a_hub_what_datasets_has_kept_is_read(tmp_path):
    vstar(tmp_path / "once", 2)
    files = {"test": str(tmp_path / "once/data/test-00000-of-00001.parquet")}
    datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "made"))
    (made,) = (tmp_path / "made" / "parquet").glob("default-*/0.0.0/*/")
    kept = tmp_path / "datasets-cache" / "lmms-lab-encoder___vstar-bench" / "default" / "0.0.0" / ("0" * 40)
    shutil.copytree(made, kept)
    for file in kept.glob("parquet-*.arrow"):
        file.rename(file.with_name(file.name.replace("parquet-", "vstar-bench-")))
    info = (kept / "dataset_info.json").read_text()
    (kept / "dataset_info.json").write_text(info.replace('"dataset_name": "parquet"', '"dataset_name": "vstar-bench"'))
    assert len(open_docs(VSTAR, task(VSTAR), None)) == 2
    assert datasets.config.HF_HUB_OFFLINE is False  # as it was


# Files that are broken


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_parquet_file_that_is_cut_short_is_named(root, keep):
    vstar(root / "vstar-bench", 2)
    path = root / "vstar-bench/data/test-00000-of-00001.parquet"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(UsageError, match=rf"{path} cannot be read \(.+\); fetch it again with `hf download lmms") as e:
        open_docs(VSTAR, task(VSTAR), root)
    assert "\n" not in str(e.value)


def test_a_rewritten_file_is_read_anew_though_its_time_is_the_old_one(root):
    path = root / "vstar-bench/data/test-00000-of-00001.parquet"
    times = []
    for k, answer in enumerate(("first", "other", "third")):  # equal sizes
        parquet(path, {"category": ["direct_attributes"], "label": [answer]}, {"category": TEXT, "label": TEXT})
        times.append(path.stat().st_mtime_ns)
        os.utime(path, ns=(times[0], times[0]))  # as rsync -a and tar set it
        assert open_docs(VSTAR, task(VSTAR), root)[0]["label"] == answer, k


def write_questions(folder: Path, lines: list[list[str]], encoding: str = "utf-8") -> None:
    with (folder / "Questions.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(lines)


HEAD = ["Index", "Question", "Options", "Correct Answer"]


def test_a_byte_order_mark_before_mmvps_questions_is_no_part_of_a_name(root):
    mmvp(root / "MMVP", 2)
    write_questions(root / "MMVP", [HEAD, ["1", "Größe?", "(a) ä (b) b", "(a)"]], "utf-8-sig")
    assert open_docs("mmvp", task("mmvp"), root)[0]["Question"] == "Größe?"


def test_mmvps_four_wrong_answers_are_corrected_and_no_other(root):
    (root / "MMVP").mkdir()
    given = {99: "(a)", 100: "(b)", 279: "(a)", 280: "(b)", 98: "(a)", 101: "(b)"}
    write_questions(root / "MMVP", [HEAD, *([str(i), "?", "(a) x (b) y", answer] for i, answer in given.items())])
    table = open_docs("mmvp", task("mmvp"), root).table
    expected = {99: "(b)", 100: "(a)", 279: "(b)", 280: "(a)", 98: "(a)", 101: "(b)"}
    assert dict(zip(table["Index"], table["Correct Answer"], strict=True)) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([["Index", "Question", "Options"], ["1", "?", "(a) x (b) y"]], "expected the columns Index, Question"),
        ([HEAD], "at least one row"),
        ([HEAD, ["one", "?", "(a) x (b) y", "(a)"]], "Index must be whole numbers from 1"),
        ([HEAD, ["1.5", "?", "(a) x (b) y", "(a)"]], "Index must be whole numbers from 1"),
    ],
)  # fmt: skip
def test_questions_that_are_malformed_are_refused(root, lines, expected):
    (root / "MMVP").mkdir()
    write_questions(root / "MMVP", lines)
    with pytest.raises(UsageError, match=rf"Questions\.csv: .*{expected}"):
        open_docs("mmvp", task("mmvp"), root)


def test_questions_in_another_encoding_are_refused(root):
    (root / "MMVP").mkdir()
    write_questions(root / "MMVP", [HEAD, ["1", "Größe?", "(a) x (b) y", "(a)"]], "latin-1")
    with pytest.raises(UsageError, match=r"Questions\.csv: cannot be read as UTF-8 CSV"):
        open_docs("mmvp", task("mmvp"), root)


# Pictures that are broken


def test_a_missing_picture_of_mmvp_fails_its_own_document(root):
    mmvp(root / "MMVP", 3)
    path = root / "MMVP" / "MMVP Images" / "2.jpg"
    path.unlink()
    docs = open_docs("mmvp", task("mmvp"), root)
    with pytest.raises(GapcheckError, match=rf"image {path}: no such file"):
        docs[1]
    assert docs[2]["image"].size == (64, 48)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"bytes": b"no picture at all", "path": None}, "image image: cannot be decoded"),
        ({"bytes": b"", "path": None}, "image image: cannot be decoded"),
        ({"bytes": encoded(1)["bytes"][:3000], "path": None}, "image image: cannot be decoded"),
        ({"bytes": encoded(1, "JPEG")["bytes"][:1000], "path": None}, r"cannot be decoded \(image file is truncated"),
        (None, "image: null; the row has no picture"),
        ({"bytes": None, "path": None}, "image: null"),
    ],
    ids=["text", "empty", "half a PNG", "half a JPEG", "null", "nothing"],
)
def test_a_broken_picture_fails_its_own_document(root, value, reason):
    vstar(root / "vstar-bench", 2)
    docs = open_docs(VSTAR, task(VSTAR), root)
    broken = Docs(rows(docs.table, image=[value, encoded(7)]))
    with pytest.raises(GapcheckError, match=reason) as error:
        broken[0]
    assert "\n" not in str(error.value)
    assert pixels(broken[1]["image"]) == pixels(picture(7))
    with pytest.raises(GapcheckError):  # and again: the failure is not forgotten
        broken[0]


def test_of_blinks_four_pictures_some_may_be_null_but_not_all(root):
    blink(root / "BLINK", "Jigsaw", 2)
    docs = open_docs(JIGSAW, task(JIGSAW), root)
    assert docs[0]["image_4"] is None
    assert pixels(docs[0]["image_3"]) == pixels(picture(3000))
    nulls = {f"image_{k}": [None, None] for k in (1, 2, 3, 4)}
    with pytest.raises(GapcheckError, match=r"image_1, .*image_4: null; the row has no picture"):
        Docs(rows(docs.table, **nulls))[0]


def test_pictures_in_a_list_are_decoded_and_a_null_among_them_is_named():
    table = datasets.Dataset.from_dict(
        {"images": [[encoded(1), encoded(2)], [encoded(3), None], []]}, features=Features({"images": List(Image())})
    )
    docs = Docs(undecoded(table))
    assert [pixels(image) for image in docs[0]["images"]] == [pixels(picture(1)), pixels(picture(2))]
    with pytest.raises(GapcheckError, match="images 1: null"):
        docs[1]
    with pytest.raises(GapcheckError, match="the row has no picture"):
        docs[2]


def test_a_picture_is_turned_as_its_exif_says(root):
    vstar(root / "vstar-bench", 1)
    docs = open_docs(VSTAR, task(VSTAR), root)
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = Docs(rows(docs.table, image=[{"bytes": png(5, exif=exif), "path": None}]))[0]["image"]
    assert turned.size == (48, 64)
    assert pixels(turned) == pixels(picture(5).transpose(PillowImage.Transpose.ROTATE_270))


# process_docs


def test_process_docs_is_applied_once(root):
    vstar(root / "vstar-bench", 2)
    seen = []

    def process(table):
        seen.append(len(table))
        return table.map(lambda row: {"label": row["label"] + "!"})

    docs = open_docs("v", task(VSTAR) | {"process_docs": process}, root)
    assert [docs[i]["label"] for i in range(2)] == ["A!", "C!"]
    assert seen == [2]
    assert pixels(docs[0]["image"]) == pixels(picture(100))


def test_process_docs_that_raises_is_a_line(root):
    vstar(root / "vstar-bench", 1)

    def process(table):
        return table.select_columns(["absent"])

    with pytest.raises(UsageError, match="task v: lmms-eval's process_docs raised ValueError"):
        open_docs("v", task(VSTAR) | {"process_docs": process}, root)
