"""Arguments and errors that the commands share."""

import os

import pytest
import torch

from ifa_d2.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    add_workers_argument,
    command_parser,
    training_parser,
)
from ifa_d2.errors import errors_in_one_line, plain_worker_errors


def test_overrides_stand_behind_options_and_lists_of_values() -> None:
    parser = command_parser("")
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument("--input", nargs="+")
    add_overrides_argument(parser)
    start = ["--config-file", "a.py"]
    args = parser.parse_args([*start, "train.seed=2", "model.x=1", "--weights", "w.pth"])
    assert (args.config_file, args.weights) == ("a.py", "w.pth")
    assert args.opts == ["train.seed=2", "model.x=1"]
    args = parser.parse_args([*start, "--input", "1.png", "2.png", "--", "train.seed=2"])
    assert (args.input, args.opts) == (["1.png", "2.png"], ["train.seed=2"])
    args = parser.parse_args(start)
    assert (args.weights, args.opts) == (None, [])


@pytest.mark.parametrize("front", [[], ["--"]])
def test_a_lone_dash_may_stand_before_overrides(front: list[str]) -> None:
    parser = command_parser("")
    add_config_argument(parser)
    add_overrides_argument(parser)
    for one in (parser, training_parser("")):
        args = one.parse_args(["--config-file", "a.py", *front, "train.seed=2", "a.b=1"])
        assert args.opts == ["train.seed=2", "a.b=1"]
        assert one.parse_args(["--config-file", "a.py", *front]).opts == []


def test_training_takes_the_rest_as_overrides() -> None:
    parser = training_parser("")
    args = parser.parse_args(["--config-file", "a.yaml", "SEED", "-1", "MODEL.WEIGHTS", "w.pth"])
    assert args.opts == ["SEED", "-1", "MODEL.WEIGHTS", "w.pth"]
    args = parser.parse_args(["--config-file", "a.py", "train.seed=2", "--eval-only"])
    assert args.opts == ["train.seed=2", "--eval-only"] and not args.eval_only


def test_a_config_is_needed_unless_said(capsys: pytest.CaptureFixture) -> None:
    for required in (True, False):
        parser = command_parser("One.\n\n    two\n")
        add_config_argument(parser, required=required, purpose="what for")
        help_text = " ".join(parser.format_help().split())
        assert "such as shapes/ifa_r18.py: what for" in help_text
        assert "One.\n\n    two\n" in parser.format_help()
        if required:
            with pytest.raises(SystemExit):
                parser.parse_args([])
            assert "--config-file" in capsys.readouterr().err
        else:
            assert parser.parse_args([]).config_file is None


def test_workers_are_as_many_as_processors() -> None:
    parser = command_parser("")
    add_workers_argument(parser)
    assert 1 <= parser.parse_args([]).workers <= os.cpu_count()
    assert parser.parse_args(["--workers", "3"]).workers == 3


def test_errors_of_users_end_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tools/one.py"])
    for error in (ValueError("size must be 1"), FileNotFoundError("no a.png"), KeyError("key")):
        with pytest.raises(SystemExit) as stop, errors_in_one_line(KeyError):
            raise error
        assert stop.value.code == f"one.py: error: {error}"
    # Anything else is a fault of ours, whose traceback tells where.
    with pytest.raises(KeyError), errors_in_one_line():
        raise KeyError("key")
    with errors_in_one_line():
        pass


def test_an_error_of_a_loaders_worker_is_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch makes the traceback of the worker a part of the message."""
    monkeypatch.setattr("sys.argv", ["tools/one.py"])
    loader = torch.utils.data.DataLoader(_Damaged(), num_workers=1)
    with pytest.raises(ValueError, match="Traceback"):
        next(iter(loader))
    with pytest.raises(ValueError, match=r"^label 'a\.png': holds 7$") as caught:
        with plain_worker_errors():
            next(iter(loader))
    assert caught.value.__suppress_context__  # nor is the traceback shown above it
    with pytest.raises(SystemExit) as stop, errors_in_one_line():
        next(iter(loader))
    assert stop.value.code == "one.py: error: label 'a.png': holds 7"


class _Damaged(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise ValueError("label 'a.png': holds 7")


def test_an_interrupt_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["tools/one.py"])
    with pytest.raises(SystemExit) as stop, errors_in_one_line():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr().err == "one.py: interrupted\n"
