"""Fault points: nothing happens at them unless a test wants it, and then exactly there."""

import subprocess
import sys

import pytest

from concierge.kit.faults import InjectedFault, fault_point, observed


def test_a_point_does_nothing_by_itself() -> None:
    fault_point("capture.before")


def test_an_observer_sees_every_point_for_a_while() -> None:
    seen: list[str] = []
    with observed(seen.append):
        fault_point("hold.after")
        with observed(lambda _: None):
            fault_point("commit.before")
        fault_point("commit.after")
    fault_point("capture.after")
    assert seen == ["hold.after", "commit.after"]


def test_an_observer_may_raise_and_is_gone_afterwards() -> None:
    def die(name: str) -> None:
        raise InjectedFault(name)

    with pytest.raises(InjectedFault, match=r"hold\.after"), observed(die):
        fault_point("hold.after")
    fault_point("hold.after")


@pytest.mark.parametrize(
    ("armed", "code"), [("", 0), ("hold.after:exit", 86), ("hold.after:raise", 1), ("capture.after:exit", 0)]
)
def test_a_process_has_one_point_armed_by_its_environment(armed: str, code: int) -> None:
    program = "from concierge.kit.faults import fault_point; fault_point('hold.before'); fault_point('hold.after')"
    ended = subprocess.run(
        [sys.executable, "-c", program], env={"CONCIERGE_FAULT": armed}, capture_output=True, check=False
    )
    assert ended.returncode == code
    assert (b"InjectedFault" in ended.stderr) is (code == 1)
