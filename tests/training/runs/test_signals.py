"""Signals stop a run between two steps, with a checkpoint."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.training.small_runs import assert_same_end, at_step, fit, short_command
from unrolled.cli import main
from unrolled.data import ImageData
from unrolled.training.runs.checkpoint import load_checkpoint


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_signals_leave_a_checkpoint_and_the_command_to_go_on(number, status, tmp_path, capsys, monkeypatch):
    at_step(monkeypatch, 30, lambda: signal.raise_signal(number))
    folder = tmp_path / "run"
    rare = ["--training.checkpoint_minutes=5", "--training.validations=1"]
    assert main([*short_command(tmp_path), f"--folder={folder}", *rare]) == status
    assert f"--config {folder / 'config.yaml'} --resume" in capsys.readouterr().err
    assert load_checkpoint(folder / "last.pt")["step"] == 31  # the step was finished first


def test_ctrl_c_while_data_are_read_leaves_a_folder_to_start_in(tmp_path, capsys, monkeypatch):
    argv = [*short_command(tmp_path), f"--folder={tmp_path / 'run'}", "--training.steps=2", "--training.validations=1"]
    with monkeypatch.context() as patch:
        patch.setattr(ImageData, "load", lambda *_: signal.default_int_handler(signal.SIGINT, None))
        assert main(argv) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]
    assert main(argv) == 0


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    fit(tmp_path / "straight")
    with monkeypatch.context() as patch:
        at_step(patch, 9, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "stopped")
    fit(tmp_path / "stopped", resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "stopped")


def test_a_second_ctrl_c_takes_effect_at_once(tmp_path, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_step(monkeypatch, 6, twice)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 4


def test_beside_the_main_thread_a_run_leaves_signals_alone(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fit, tmp_path / "run").result()
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "run" / "best.safetensors").exists()
