import json

import pytest
from click.testing import CliRunner

from perception_gap.cli import main


def run(*arguments):
    return CliRunner().invoke(main, ["scenes", *map(str, arguments)])


def test_images_and_records_are_written_where_asked(tmp_path):
    out = tmp_path / "a" / "b"
    result = run("--task", "pairs", "--task", "iq", "--n", 3, "--out", out, "--split", "train", "--seed", 9)
    assert (result.exit_code, result.output) == (0, f"3 scenes: {out / 'scenes.jsonl'}\n")
    rows = [json.loads(line) for line in (out / "scenes.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["pairs-train-9-000000", "pairs-train-9-000001", "iq-train-9-000000"]
    assert all((out / row["image"]).is_file() for row in rows)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--task", "colour", "--out", "{}/a"], 2, "unknown scenes task 'colour': expected one of attribute, "),
        (["--split", "test", "--out", "{}/a"], 2, "unknown scenes split 'test': expected one of train, heldout"),
        (["--n", "0", "--out", "{}/a"], 2, "--n"),
        (["--n", "2"], 2, "--out"),
        (["--n", "2", "--out", "{}/file"], 2, "is a file"),
        (["--n", "2", "--out", "{}/file/below"], 1, "cannot write"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(tmp_path, arguments, status, says):
    (tmp_path / "file").write_text("")
    result = run(*(a.format(tmp_path) for a in arguments))
    assert result.exit_code == status
    assert result.stderr.startswith("gapcheck: error: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
