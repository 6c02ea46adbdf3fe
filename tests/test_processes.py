"""Processes that share their work: what is exchanged, and that an error in one of them ends all."""

import textwrap

import pytest
import ranks
from hypothesis import given
from hypothesis import strategies as st

from shortcutscope import processes
from shortcutscope.errors import InputError

SCRIPT = textwrap.dedent(
    """
    import atexit
    import os
    import warnings
    from pathlib import Path

    def count_threads():
        tasks = Path("/proc/self/task").glob("*/comm")
        Path("exchanging").write_text(str(sum("gloo" in task.read_text() for task in tasks)))

    if os.environ["RANK"] == "0":
        atexit.register(count_threads)  # the first to be registered is the last to run

    from shortcutscope import processes
    from shortcutscope.errors import InputError, ModelError
    from shortcutscope.processes import from_main, gathered, is_main, rank, together, wait

    class OddError(ModelError):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    def raised(work):
        try:
            with together():
                work()
        except Exception as error:
            return type(error).__name__, str(error), getattr(error, "__notes__", [])

    def fail_in(which, error):
        if rank() == which:
            raise error

    number = int(os.environ["RANK"])
    assert processes.count() == 1 and is_main() and gathered(lambda: 5, "out") == [5]  # outside
    with together():
        assert (processes.count(), rank(), is_main()) == (2, number, number == 0)
        assert gathered(lambda: 10 + rank(), "here") == [10, 11]
        assert from_main(lambda: rank() + 7, "main") == 7
        assert len(processes.dealt([1.0] * 5)) == 3 - rank()
        # The largest one is as much as all others.
        assert processes.dealt([1, 2, 6, 3]) == ([2] if is_main() else [0, 1, 3])
        with together():
            assert gathered(rank, "inside") == [0, 1]
        with processes.alone():
            assert processes.count() == 1 and gathered(rank, "alone") == [0]
        processes.require_same({"a": 1}, "same")
        warnings.warn("once")

    assert raised(lambda: gathered(lambda: fail_in(1, InputError("bad")), "x")) == ("InputError", "bad", [])
    # One fails where the other waits, and the other way round; of two errors the first one's is raised.
    assert raised(lambda: (fail_in(0, InputError("first")), wait("w"))) == ("InputError", "first", [])
    assert raised(lambda: (wait("w"), fail_in(1, OSError(2, "no file", "x.png"))))[0] == "FileNotFoundError"
    assert raised(lambda: fail_in(rank(), InputError(f"of {rank()}"))) == ("InputError", "of 0", [])
    # What cannot be sent as it is comes as its kind, and a defect says where it was.
    kind, text, _ = raised(lambda: fail_in(1, OddError("a", "b")))
    assert (kind, text) == ("OddError" if number else "ModelError", "a and b")
    kind, text, notes = raised(lambda: fail_in(1, ZeroDivisionError("of course")))
    assert (kind, text) == ("ZeroDivisionError", "of course")
    assert number == 1 or ("in process 1 of 2" in notes[0] and "fail_in" in notes[0])
    # A value that cannot be sent, different places, and different inputs.
    assert raised(lambda: gathered(lambda: (lambda: 0) if rank() else 0, "x")) is not None
    assert "different ways" in raised(lambda: wait("left" if rank() else "right"))[1]
    kind, text, _ = raised(lambda: processes.require_same({"data": rank(), "model": 1}, "same"))
    assert kind == "InputError" and "process 1 of 2 was given another data than process 0" in text
    with together():
        assert gathered(rank, "and on") == [0, 1]
    print(f"whole {number}", flush=True)
    with together():
        os._exit(5) if rank() else wait("for nobody")
    """
)


def test_what_is_exchanged_and_errors_end_all(tmp_path):
    first, second = ranks.by_hand(["-c", SCRIPT], tmp_path)
    assert (first.out, second.out) == ("whole 0\n", "whole 1\n"), first.err + second.err
    assert first.err.count("UserWarning: once") == 1
    assert "UserWarning" not in second.err
    # One ended for reasons of its own, for which the other does not wait.
    assert (first.code, second.code) == (1, 5)
    assert "LostProcessError: one of the 2 processes ended without a word" in first.err
    # No thread runs on while Python ends, which it may abort.
    assert (tmp_path / "exchanging").read_text() == "0"


def test_alone_nothing_is_shared(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes.together():
        assert processes.is_main()
        assert processes.gathered(lambda: "a", "x") == [processes.from_main(lambda: "a", "x")]
        assert processes.dealt([3.0, 1.0]) == [0, 1]
        with pytest.raises(ZeroDivisionError):
            processes.gathered(lambda: 1 // 0, "x")


@pytest.mark.parametrize("text", ["0", "-1", "many", ""])
def test_world_size_that_is_none(monkeypatch, text):
    monkeypatch.setenv("WORLD_SIZE", text)
    with (
        pytest.raises(InputError, match=f"WORLD_SIZE='{text}' is no number of processes"),
        processes.together(),
    ):
        pass


@given(n=st.integers(0, 50), count=st.integers(1, 9))
def test_shares_cover_all_and_are_even(n, count):
    parts = [range(n)[processes.share(n, rank, count)] for rank in range(count)]
    assert [k for part in parts for k in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
