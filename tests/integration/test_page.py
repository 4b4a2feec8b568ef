"""The page in headless Chromium, opened from disk as a reader opens it."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from perception_gap.geometry import TokenGeometry
from perception_gap.runs.run import Run
from reports.figures.models import of_bench, of_runs
from reports.page import write_page
from reports.page.albums import albums
from reports.sources import open_sources
from tests.command import gapcheck
from tests.unit.reports import synthetic_run
from tests.unit.reports.tables.synthetic_bench import write_bench

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: install Debian's chromium to test the pages")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        found = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture
def tab(browser):
    """(opens a page, what went wrong in it): console errors, exceptions, and requests that leave the disk."""
    trouble: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)

    def open_page(path: Path, **media):
        page = context.new_page()
        page.emulate_media(**media)
        page.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda r: trouble.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto(path.resolve().as_uri())
        return page

    yield open_page, trouble
    context.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Run]:
    """A student and what became of it, 60 scenes, one teacher; two rows of the student failed."""
    folder = tmp_path_factory.mktemp("runs")
    drawn = list(synthetic_run.scenes(n=60))
    teacher = synthetic_run.write_run(folder / "teacher", drawn, synthetic_run.TEACHER)
    student = synthetic_run.write_run(folder / "student", drawn, synthetic_run.STUDENT, teacher, failed=(3, 9))
    better = synthetic_run.Model("tiny:lavit", gain=9.0, accuracy=0.8)
    return [student, synthetic_run.write_run(folder / "lavit", drawn, better, teacher)]


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory) -> Path:
    return write_page(runs, tmp_path_factory.mktemp("page") / "report.html").path


def pixels(page, panel: int) -> np.ndarray:
    """What the panel's canvas shows: [height, width, 4]; panel 0 is the picture."""
    data = page.evaluate(
        "n => { const c = document.querySelectorAll('#panels .panel')[n].querySelector('canvas');"
        "return [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }", panel,
    )  # fmt: skip
    return np.array(data[2:]).reshape(data[0], data[1], 4)


def loaded(page) -> None:
    """Pictures are decoded a moment after the page has loaded."""
    page.wait_for_function(
        "() => { const c = document.querySelector('#panels canvas');"
        "return c && c.getContext('2d').getImageData(5, 5, 1, 1).data[3] > 0; }"
    )


def test_the_page_is_one_file_that_asks_for_nothing(report, tab):
    open_page, trouble = tab
    page = open_page(report)
    loaded(page)
    assert page.locator("#list button").count() == 60
    assert page.locator(".answers article").count() == 4
    assert page.locator("#figures svg").count() >= 4
    assert page.locator("#tables table").count() >= 1
    assert not re.search(r"""(src|href)=["']https?:""", report.read_text())
    assert list(report.parent.iterdir()) == [report]
    assert trouble == []


def test_the_headline_is_in_the_page(report, tab, runs):
    page = tab[0](report)
    kl = runs[1].summary["kl"]["against_floor"]["value"]
    assert f"{kl['mean']:.2f} nats" in page.locator(".answers").inner_text()


def test_a_word_changes_the_overlays_of_every_model_and_leaving_it_changes_them_back(report, tab):
    page = tab[0](report)
    loaded(page)
    words = page.locator("#shared button")
    whole = [pixels(page, n) for n in range(4)]
    words.nth(1).hover()
    over = [pixels(page, n) for n in range(4)]
    assert np.array_equal(whole[0], over[0])  # the picture is the picture
    for n in (1, 2, 3):
        assert not np.array_equal(whole[n], over[n])
    assert words.nth(1).inner_text() in page.locator("#said").inner_text()
    page.mouse.move(5, 5)
    for n in (1, 2, 3):
        assert np.array_equal(pixels(page, n), whole[n])


def test_the_overlay_is_brightest_where_the_map_is(report, tab, runs):
    """The heaviest token of the teacher's map, read from the run, is where the page paints the strongest colour."""
    page = tab[0](report)
    page.get_by_label("Find").fill("relative_depth-heldout-0-000000")
    loaded(page)
    page.wait_for_timeout(100)
    teacher = runs[0].teacher()
    weights = teacher.map("relative_depth-heldout-0-000000").reshape(16, 16)
    row, col = np.unravel_index(weights.argmax(), weights.shape)
    red = pixels(page, 1)[:, :, 0]  # rises along the whole colour map, and over the dimmed picture below it
    side = [n // 16 for n in red.shape]
    cells = red[: 16 * side[0], : 16 * side[1]].reshape(16, side[0], 16, side[1])[:, 6:-6, :, 6:-6]
    cells = np.median(cells.transpose(0, 2, 1, 3).reshape(16, 16, -1), axis=2)
    assert np.unravel_index(np.argmax(cells), (16, 16)) == (row, col)


def test_a_word_stays_when_it_is_clicked_until_escape(report, tab):
    page = tab[0](report)
    loaded(page)
    whole = pixels(page, 1)
    words = page.locator("#shared button")
    words.nth(2).click()
    page.mouse.move(5, 5)
    kept = pixels(page, 1)
    assert not np.array_equal(kept, whole)
    assert words.nth(2).get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    assert np.array_equal(pixels(page, 1), whole)


def test_everything_goes_by_keyboard(report, tab):
    page = tab[0](report)
    loaded(page)
    whole = pixels(page, 1)
    first = page.locator("#question").inner_text()
    page.locator("#list button").first.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("t => document.getElementById('place').textContent.startsWith('2 of')", arg=0)
    assert page.locator("#list button[aria-current=true]").get_attribute("data-place") == "1"
    page.keyboard.press("ArrowUp")
    page.wait_for_function("t => document.getElementById('question').textContent === t", arg=first)
    loaded(page)
    page.locator("#shared button").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.at") == "1"
    assert not np.array_equal(pixels(page, 1), whole)


def test_every_control_has_a_name_and_every_picture_says_what_it_shows(report, tab):
    page = tab[0](report)
    loaded(page)
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('button, select, input')].filter(e =>"
        "!(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim())).length"
    )
    assert unnamed == 0
    silent = page.evaluate(
        "() => [...document.querySelectorAll('[role=img]')].filter(e => !e.getAttribute('aria-label')).length"
    )
    assert silent == 0
    assert "looks most at the" in page.locator("#panels .panel canvas").nth(1).get_attribute("aria-label")


def count(page) -> int:
    return int(page.locator("#count").inner_text().split()[0])


def test_the_filters_choose_what_the_runs_say(report, tab, runs):
    page = tab[0](report)
    teacher = runs[0].teacher()
    tables = [run.samples.set_index("sample_id") for run in (teacher, *runs)]
    task = "relative_depth"
    page.locator("select[name=task]").select_option(task)
    assert count(page) == (tables[0]["task"] == task).sum()
    assert set(page.locator("#list .task").all_inner_texts()) == {task}
    page.locator("select[name=task]").select_option("")
    right = [table["correct"].eq(True) & (table["status"] == "ok") for table in tables]
    wrong = [table["correct"].eq(False) & (table["status"] == "ok") for table in tables]
    expected = {
        "right": right[0] & right[1] & right[2], "wrong": wrong[0] & wrong[1] & wrong[2],
        "11": right[1], "20": wrong[2],
        "differ": (right[0] | right[1] | right[2]) & (wrong[0] | wrong[1] | wrong[2]),
        "failed": tables[1]["status"] != "ok",
    }  # fmt: skip
    for value, mask in expected.items():
        page.get_by_label("Verdicts").select_option(value)
        assert count(page) == mask.sum(), value
    page.get_by_label("Verdicts").select_option("")
    words = runs[0].words[runs[0].words["text"] == "shared"]
    worst = words.loc[words.groupby("sample_id")["kl"].idxmax()]
    page.get_by_label("Differ most on").select_option("object")
    assert count(page) == (worst["category"] == "object").sum()


def test_the_largest_disagreement_comes_first_when_asked_for(report, tab, runs):
    page = tab[0](report)
    page.get_by_label("Order").select_option("kl")
    largest = max(run.samples["kl"].max() for run in runs)
    shown = [float(t.split("KL ")[1]) for t in page.locator("#list .verdicts").all_inner_texts() if "KL" in t]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] == pytest.approx(largest, abs=0.01)


def test_no_sample_passes_is_said(report, tab):
    open_page, trouble = tab
    page = open_page(report)
    page.get_by_label("Find").fill("no such question")
    assert page.locator("#question").inner_text() == "No sample passes these filters."
    assert count(page) == 0
    page.get_by_label("Find").fill("")
    loaded(page)
    assert trouble == []


def test_another_sample_does_not_keep_the_words_of_the_one_before(report, tab):
    page = tab[0](report)
    loaded(page)
    page.locator("#shared button").first.click()
    assert page.locator("#said").inner_text() != ""
    page.locator("#next").click()
    page.wait_for_function("() => document.getElementById('place').textContent.startsWith('2 of')")
    assert page.locator("#said").inner_text() == ""


def test_the_list_is_one_tab_stop(report, tab):
    page = tab[0](report)
    loaded(page)
    assert page.locator("#list button[tabindex='0']").count() == 1
    page.locator("#list button[tabindex='0']").focus()
    page.keyboard.press("Tab")
    assert not page.evaluate("document.getElementById('list').contains(document.activeElement)")


def test_a_question_is_found_by_its_end(tmp_path, tab):
    run = synthetic_run.write_run(tmp_path / "run", list(synthetic_run.scenes(n=3)), synthetic_run.STUDENT)
    run.samples.loc[1, "question"] = "word " * 60 + "needle"
    page = tab[0](write_page([run], tmp_path / "report.html").path)
    page.get_by_label("Find").fill("needle")
    assert count(page) == 1


def test_a_failed_sample_gives_its_reason(report, tab):
    page = tab[0](report)
    page.get_by_label("Verdicts").select_option("failed")
    loaded(page)
    assert "failed: out of memory" in page.locator("#panels").inner_text()


def test_samples_behind_the_first_lie_in_scripts_beside_the_page(runs, tab, tmp_path):
    found = write_page(runs, tmp_path / "report.html", samples=None, embedded=50)
    assert (found.samples, found.of, len(found.chunks)) == (60, 60, 1)
    open_page, trouble = tab
    page = open_page(found.path)
    loaded(page)
    for _ in range(3):
        page.evaluate("document.querySelector('#list li:last-child button').click()")
        page.wait_for_function("() => document.getElementById('place').textContent.startsWith('60 of')")
    loaded(page)
    assert page.locator("#panels canvas").count() >= 4
    assert trouble == []
    (tmp_path / "report_samples" / "thesis.txt").write_text("mine")
    write_page(runs, tmp_path / "report.html", samples=None, embedded=0)
    assert len(list((tmp_path / "report_samples").glob("*.js"))) == 2  # the old page's script is the same file
    write_page(runs, tmp_path / "report.html", samples=10)
    assert [path.name for path in (tmp_path / "report_samples").iterdir()] == ["thesis.txt"]  # nobody else's file
    found = write_page(runs, tmp_path / "report.html", samples=None, embedded=50)
    shutil.rmtree(tmp_path / "report_samples")
    page = open_page(found.path)
    page.evaluate("document.querySelector('#list li:last-child button').click()")
    page.wait_for_function("() => document.getElementById('question').textContent.includes('keep the folder next to')")
    page.locator("#list button").first.click()
    loaded(page)


@pytest.mark.parametrize("name", ["a#b?c 100%20 %zz", "'страница' \"頁\" é", "javascript:x", "-dash;&amp;", "x" * 250])
def test_a_page_of_any_name_finds_what_lies_beside_it(pair_of_two, tab, tmp_path, name):
    out = tmp_path / f"{name}.html"
    assert len(write_page([pair_of_two], out, embedded=0).chunks) == 1
    loaded(tab[0](out))
    assert tab[1] == []


@pytest.fixture(scope="module")
def pair_of_two(tmp_path_factory) -> Run:
    """The student of two scenes."""
    return synthetic_run.write_pair(tmp_path_factory.mktemp("two"), n=2)[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_told_apart_and_legible(report, tab, scheme):
    page = tab[0](report, color_scheme=scheme)
    colors = page.evaluate(
        "() => ['background-color', 'color'].map(n => getComputedStyle(document.body).getPropertyValue(n)"
        ".match(/\\d+/g).map(Number))"
    )
    luminance = [sum(w * (v / 255) ** 2.2 for w, v in zip((0.2126, 0.7152, 0.0722), c, strict=True)) for c in colors]
    contrast = (max(luminance) + 0.05) / (min(luminance) + 0.05)
    assert contrast > 7  # WCAG AAA
    assert (luminance[0] < luminance[1]) == (scheme == "dark")
    page.locator("#theme").click()
    flipped = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert flipped != f"rgb({', '.join(map(str, colors[0]))})"


def test_a_narrow_window_scrolls_one_way_only(report, tab):
    page = tab[0](report)
    page.set_viewport_size({"width": 380, "height": 800})
    loaded(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_tiles_and_several_pictures_are_painted_on_their_rectangles(tmp_path, tab):
    tiles = TokenGeometry.concatenate([
        TokenGeometry.grid(4, 4), TokenGeometry.grid(2, 2, within=(0, 0, 0.5, 1)), TokenGeometry.nowhere(1),
        TokenGeometry.grid(6, 6, image=1),
    ])  # fmt: skip
    model = synthetic_run.Model("tiles", geometry=tiles)
    run = synthetic_run.write_run(tmp_path / "run", list(synthetic_run.scenes(n=2)), model, n_images=2)
    open_page, trouble = tab
    page = open_page(write_page([run], tmp_path / "report.html").path)
    loaded(page)
    assert page.locator("#panels .panel").nth(1).locator("canvas").count() == 2
    page.wait_for_timeout(200)
    shown = page.evaluate(
        "() => [...document.querySelectorAll('#panels .panel')[1].querySelectorAll('canvas')].map(c => {"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;"
        "for (let i = 0; i < d.length; i += 4) n += Math.abs(d[i] - d[i + 2]) > 12; return n / (d.length / 4); })"
    )
    assert all(share > 0.02 for share in shown), shown  # colour on both pictures
    assert trouble == []


def test_the_picture_below_a_map_is_grey(report, tab):
    """Where less than even attention lies nothing is painted: red, green and blue are equal."""
    page = tab[0](report)
    loaded(page)
    page.wait_for_timeout(200)
    rgb = pixels(page, 1)[:, :, :3].astype(int)  # the teacher's map lies on a few tokens
    assert np.median(np.ptp(rgb, axis=2)) <= 2


def test_hostile_texts_stay_texts(tmp_path, tab):
    drawn = list(synthetic_run.scenes(n=4))
    run = synthetic_run.write_run(tmp_path / "run", drawn, synthetic_run.STUDENT)
    run.info["model"]["name"] = "</script><img src=x onerror=alert(1)>"
    hostile = "</script><script>document.title = 'taken'</script> $x$ \u2028 {{ 7 * 7 }} مرحبا"
    run.samples["question"] = hostile
    run.samples["answer"] = hostile
    found = write_page([run], tmp_path / "report.html", title=hostile)
    open_page, trouble = tab
    page = open_page(found.path)
    loaded(page)
    assert page.title() != "taken"
    assert page.locator("#question").inner_text().startswith("</script><script>")
    assert "{{ 7 * 7 }}" in page.locator("#question").inner_text()
    assert trouble == []


def test_all_samples_failed_is_a_page_that_says_so(tmp_path, tab):
    run = synthetic_run.write_run(
        tmp_path / "run", list(synthetic_run.scenes(n=4)), synthetic_run.STUDENT, failed=range(4)
    )
    open_page, trouble = tab
    page = open_page(write_page([run], tmp_path / "report.html").path)
    assert "none of 4 samples is valid" in page.locator(".notices").inner_text()
    assert trouble == []


def test_the_command_shows_an_unfinished_run_with_what_it_has(runs, tmp_path, tab):
    folder = tmp_path / "student"
    shutil.copytree(runs[0].path, folder)
    shutil.copytree(runs[0].path.parent / "teacher", tmp_path / "teacher")
    shutil.copytree(runs[0].path.parent / "images", tmp_path / "images")
    import pandas as pd

    from perception_gap.storage.files import write_json

    keys = pd.read_parquet(next((folder / "parts").glob("*.parquet")))["key"].tolist()
    write_json(folder / "parts" / "keys.json", {"keys": [*keys[:24], *(["-"] * 36)]})
    (folder / "summary.json").unlink()
    status, said = gapcheck("report", str(folder), "--out", str(tmp_path / "report.html"))
    assert status == 0, said
    assert "unfinished, 24 of 60 samples are stored" in said
    page = tab[0](tmp_path / "report.html")
    assert "unfinished, 24 of 60 samples" in page.locator(".notices").inner_text()
    assert page.locator("#list button").count() == 24


def test_lost_pictures_and_maps_are_counted(runs, tmp_path):
    folder = tmp_path / "run"
    run = synthetic_run.write_run(folder, list(synthetic_run.scenes(n=3)), synthetic_run.STUDENT)
    (tmp_path / "images" / Path(run.samples["images"][0][0]).name).unlink()
    del run._maps._sums[f"{run.samples['sample_id'][1]}/own"]
    found = write_page([run], tmp_path / "report.html")
    assert [line.split(": ", 1)[1] for line in found.notices] == [
        "a picture cannot be read: 1 of the 3 samples in the browser.",
        "a map is missing: 1 of the 3 samples in the browser.",
    ]


def test_a_model_has_one_colour_in_the_browser_and_in_the_figures(runs, tmp_path):
    bench = write_bench(tmp_path / "bench", {"other": {"mmvp": [True] * 4}, "tiny:lavit": {"mmvp": [True, False] * 2}})
    sources = [*runs, bench]
    shown = {member.label: member.color for album in albums(sources) for member in album.members}
    drawn = of_bench(bench, {model.label: model.look for model in of_runs(runs).models}).models
    assert {model.label: model.look.color for model in drawn}.items() <= shown.items()
    assert {model.label: model.look.color for model in of_runs(runs).models}.items() <= shown.items()
    assert len(set(shown.values())) == len(shown) == 4


def test_a_reference_run_shows_the_maps_of_the_reference(tmp_path, tab):
    drawn = list(synthetic_run.scenes(n=3))
    teacher = synthetic_run.write_run(tmp_path / "teacher", drawn, synthetic_run.TEACHER)
    student = synthetic_run.write_run(tmp_path / "student", drawn, synthetic_run.STUDENT, teacher)
    student.info["settings"]["text"] = "reference"
    (album,) = albums([student])
    assert [member.shared for member in album.members] == ["shared", "shared"]


def test_runs_that_were_read_differently_are_two_sets(runs):
    other = copy.copy(runs[1])
    other.info = copy.deepcopy(other.info)
    other.info["settings"]["layers"] = "last1"
    assert [len(album.runs) for album in albums([runs[0], other])] == [1, 1]
    assert [len(album.runs) for album in albums(runs)] == [2]


def test_another_question_of_the_teacher_is_not_shown_under_the_students_maps(runs):
    teacher = runs[0].teacher()
    (album,) = albums(runs)
    album.members[0].samples = album.members[0].samples.copy()
    album.members[0].samples.loc[teacher.samples["sample_id"][0], "question"] = "What else?"
    assert album.ids == list(runs[0].samples["sample_id"][1:])


def test_a_teacher_that_is_gone_is_said_and_the_rest_is_shown(tmp_path, tab):
    drawn = list(synthetic_run.scenes(n=4))
    teacher = synthetic_run.write_run(tmp_path / "teacher", drawn, synthetic_run.TEACHER)
    student = synthetic_run.write_run(tmp_path / "student", drawn, synthetic_run.STUDENT, teacher)
    shutil.move(tmp_path / "teacher", tmp_path / "elsewhere")
    found = write_page([student], tmp_path / "report.html")
    assert any("this page is without it" in notice for notice in found.notices)
    assert found.samples == 4
    assert "KL(teacher ‖ student)" in found.answers[0].reason
    open_page, trouble = tab
    loaded(open_page(found.path))
    assert trouble == []


def test_two_passes_of_one_teacher_are_one_album(tmp_path):
    drawn = list(synthetic_run.scenes(n=4))
    students = []
    for name in ("a", "b"):
        teacher = synthetic_run.write_run(tmp_path / name / "teacher", drawn, synthetic_run.TEACHER)
        students.append(synthetic_run.write_run(tmp_path / name / "run", drawn, synthetic_run.STUDENT, teacher))
    (album,) = albums(students)
    assert [member.role for member in album.members] == ["teacher", "student", "student"]


def test_two_data_sets_are_two_albums(runs, tmp_path, tab):
    other = synthetic_run.write_run(tmp_path / "other", list(synthetic_run.scenes(n=5, seed=9)), synthetic_run.STUDENT)
    other.info["data"]["hash"] = "other"
    page = tab[0](write_page([runs[0], other], tmp_path / "report.html").path)
    assert "These runs are 2 sets" in page.locator(".notices").inner_text()
    page.get_by_label("Samples of").select_option("1")
    assert count(page) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: does not exist"),
        (["RUN", "--samples", "-1"], "--samples '-1': expected a number of samples, or all"),
        (["RUN", "--samples", "²"], "--samples '²': expected a number of samples, or all"),
        (["RUN", "--out", "report.pdf"], "--out report.pdf: expected a file that ends in .html, .htm"),
    ],
)
def test_bad_input_is_one_line(runs, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, said = gapcheck("report", *(str(runs[0].path) if a == "RUN" else a for a in arguments))
    assert status == 2
    assert words in said
    assert "Traceback" not in said


def test_what_is_opened_again_is_the_same_page(runs, tmp_path):
    pages = [write_page(open_sources([run.path for run in runs]), tmp_path / n).path for n in ("a.html", "b.html")]
    assert pages[0].read_text() == pages[1].read_text().replace("b_samples", "a_samples")
