"""What a session keeps, and how."""

import stat
from decimal import Decimal
from pathlib import Path

import pytest

from hurlicane_mcp.errors import Conflict, Invalid, NotFound
from hurlicane_mcp.providers.scripted_agent import session


def test_a_session_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    begun = session.begin(tmp_path, None, "- hang")
    begun.steps_done, begun.turns, begun.cost_usd = 2, 3, Decimal("0.10")
    begun.variables["a"] = {"job_id": "job_1"}
    begun.refusals["0"] = [1, 1764000000.5]
    begun.save()

    assert session.load(tmp_path, begun.session_id) == begun
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_id_is_used_once(tmp_path: Path) -> None:
    session.begin(tmp_path, "mine", "- hang")

    with pytest.raises(Conflict, match="already in use"):
        session.begin(tmp_path, "mine", "- hang")


@pytest.mark.parametrize("name", ["gone", "../etc/passwd", "", "a b"])
def test_an_unknown_session_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        session.load(tmp_path, name)


def test_an_id_must_be_fit_for_a_file_name(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="1 to 64 letters"):
        session.begin(tmp_path, "../x", "- hang")


def test_the_folder_is_private_and_can_be_chosen(tmp_path: Path) -> None:
    folder = session.folder_of({"SCRIPTED_SESSIONS": str(tmp_path / "new" / "folder")})

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert session.folder_of({"SCRIPTED_SESSIONS": str(folder)}) == folder
    assert session.folder_of({}).name.startswith("hurlicane-scripted-")
