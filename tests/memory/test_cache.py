"""Traces kept on disk: asked for again they cost nothing, and another model, step or code asks anew."""

import time
from pathlib import Path

import pytest
from transformers import LlamaConfig

from medsft.errors import UserError
from medsft.memory.step_config import StepConfig
from medsft.memory.trace import cache, step

CONFIG = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, vocab_size=9)
SMALL, LARGE = StepConfig(batch=1), StepConfig(batch=2)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Every step that is traced rather than read."""
    steps = []

    def trace(_config, traced_step, _uniform):
        steps.append(traced_step)
        return {"forward": {"weights": traced_step.batch}}

    monkeypatch.setenv("MEDSFT_CACHE", str(tmp_path))
    monkeypatch.setattr(step, "trace", trace)
    return steps


def test_a_step_is_traced_once(asked):
    for _ in range(2):
        peaks, engines = cache.traced(CONFIG, True, [SMALL, LARGE, SMALL], [])
        assert [peak["forward"]["weights"] for peak in peaks] == [1, 2, 1] and engines == []
    assert asked == [SMALL, LARGE]


def test_another_model_or_other_code_is_traced_anew(asked, monkeypatch):
    cache.traced(CONFIG, True, [SMALL], [])
    renamed = LlamaConfig(**CONFIG.to_dict() | {"_name_or_path": "elsewhere"})
    cache.traced(renamed, True, [SMALL], [])
    assert len(asked) == 1
    cache.traced(LlamaConfig(**CONFIG.to_dict() | {"vocab_size": 10}), True, [SMALL], [])
    assert len(asked) == 2
    monkeypatch.setattr(cache, "code_fingerprint", lambda *_rooms: "changed")
    cache.traced(CONFIG, True, [SMALL], [])
    assert len(asked) == 3


def test_an_engine_that_fails_is_one_line_with_the_reason_and_steps_are_traced(asked, monkeypatch):
    monkeypatch.setattr(cache.sys, "executable", "/bin/false")
    steps, (error,) = cache.traced(CONFIG, True, [SMALL], [{"stage": 3, "ranks": 1}])
    assert isinstance(error, UserError) and "cannot be tried out for 'llama' (no message)" in str(error)
    assert steps == [{"forward": {"weights": 1}}]


def test_one_engine_fails_and_another_is_kept(asked, monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text("""#!/bin/sh\necho '["KeyError: no such layer", {"pinned": 7}]'\n""")
    script.chmod(0o755)
    monkeypatch.setattr(cache.sys, "executable", str(script))
    error, found = cache.traced(CONFIG, True, [], [{"stage": 2, "ranks": 1}, {"stage": 3, "ranks": 1}])[1]
    assert "(KeyError: no such layer)" in str(error) and found == {"pinned": 7}
    monkeypatch.setattr(cache.sys, "executable", "/bin/false")
    assert cache.traced(CONFIG, True, [], [{"stage": 3, "ranks": 1}])[1] == [{"pinned": 7}]


def test_a_step_that_cannot_be_traced_takes_no_other_away(asked, monkeypatch):
    def fails(_config, traced_step, _uniform):
        if traced_step == SMALL:
            raise UserError("cannot be traced")
        return {"forward": {"weights": traced_step.batch}}

    monkeypatch.setattr(step, "trace", fails)
    (error, found), _ = cache.traced(CONFIG, True, [SMALL, LARGE], [])
    assert str(error) == "cannot be traced" and found == {"forward": {"weights": 2}}
    with pytest.raises(UserError, match="cannot be traced"):
        cache.traced_steps(CONFIG, True, [SMALL])


def test_the_engines_processes_end_where_the_steps_are_interrupted(asked, monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\nsleep 60 &\necho $! > "$(dirname "$0")/child"\nwait\n')
    script.chmod(0o755)
    monkeypatch.setattr(cache.sys, "executable", str(script))

    def fails(*_arguments):
        deadline = time.monotonic() + 60
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(step, "trace", fails)
    with pytest.raises(KeyboardInterrupt):
        cache.traced(CONFIG, True, [SMALL], [{"stage": 3, "ranks": 1}])
    child = Path("/proc") / (tmp_path / "child").read_text().strip()
    deadline = time.monotonic() + 60
    while not ended(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ended(child)


def ended(process):
    try:
        return "State:\tZ" in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
