"""Folders of runs: one's own while one lives, gone soon after."""

import subprocess
import sys
from pathlib import Path

import pytest

from kshot.contracts.errors import Invalid
from kshot.contracts.ids import new_id
from kshot.contracts.jobs import EVENTS_FILE, OUT_FOLDER, STATE_FILE
from kshot.contracts.wire import pack, peek
from workers.job_folder import JobFolder
from workers.work_folders import own_folder

_HOLDER = """
import sys, time
from pathlib import Path
from workers.work_folders import own_folder
with own_folder(Path(sys.argv[1]), "dead") as folder:
    (folder / "job").mkdir()
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_swept_once_its_holder_is_dead_and_not_before(tmp_path: Path):
    argv = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    holder = subprocess.Popen(argv, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with own_folder(tmp_path, "first") as mine:
            assert mine.is_dir() and (tmp_path / "dead" / "job").is_dir()
        assert not mine.exists()
        holder.kill()
        holder.wait()
        with own_folder(tmp_path, "second"):
            assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "second", "second.lock"]
    finally:
        holder.kill()
        holder.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_lock_whose_holder_has_just_removed_it_is_passed_over(tmp_path: Path):
    (tmp_path / "gone.lock").symlink_to(tmp_path / "nowhere")  # found by name, and not there when it is opened
    with own_folder(tmp_path, "mine") as mine:
        assert mine.is_dir()


def test_events_are_read_line_by_line_and_again_until_taken_care_of(tmp_path: Path):
    folder = JobFolder(tmp_path)
    assert folder.unread(10) == ([], 0)
    lines = b'{"kind": "step", "data": {"step": 1}}\nnonsense\n{"kind": "saved", "data": {"step": 2}}\n{"kind": "st'
    (tmp_path / EVENTS_FILE).write_bytes(lines)
    for _ in range(2):
        events, place = folder.unread(10)
        assert [event.kind for event in events] == ["step", "saved"]
    assert [event.kind for event in folder.unread(1)[0]] == ["step"]
    folder.read_to(place)
    assert folder.unread(10) == ([], place)
    with (tmp_path / EVENTS_FILE).open("ab") as file:
        file.write(b'ep", "data": {"step": 3}}\n')
    assert [event.data for event in folder.unread(10)[0]] == [{"step": 3}]


def test_a_state_knows_its_step(tmp_path: Path):
    folder = JobFolder(tmp_path)
    assert folder.state() is None
    (tmp_path / "checkpoints" / OUT_FOLDER).mkdir(parents=True)
    state = pack({"step": 12, "recipe": new_id("job")}, {})
    (folder.out / STATE_FILE).write_bytes(state)
    assert folder.state() == (state, 12)


@pytest.mark.parametrize("damaged", [b"", b"x", pack({}, {})[:5], b"\0" * 64, b"\x02\0\0\0\0\0\0\0{}"])
def test_what_has_no_header_is_refused(damaged: bytes):
    with pytest.raises(Invalid):
        peek(damaged)
