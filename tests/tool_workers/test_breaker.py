"""When a tool that fails is left alone, and how it is tried again."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from playhead.options import Breaker
from playhead_tool_workers.breaker import Admitted, CircuitBreaker, Refused

FAILURES = 3
OPEN_SECONDS = 10.0
PROBE_SECONDS = 25.0


def admitted(breaker: CircuitBreaker, now: float) -> Admitted:
    admission = breaker.admit(now)
    assert isinstance(admission, Admitted)
    return admission


def opened(now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker(Breaker(FAILURES, OPEN_SECONDS), PROBE_SECONDS)
    for _ in range(FAILURES):
        breaker.failed(admitted(breaker, now), now)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row_and_says_how_long_to_wait():
    breaker = CircuitBreaker(Breaker(FAILURES, OPEN_SECONDS))
    for _ in range(FAILURES - 1):
        breaker.failed(admitted(breaker, 0), 0)
    breaker.succeeded(admitted(breaker, 0))
    for at in range(FAILURES):
        assert breaker.state(at) == "closed"
        breaker.failed(admitted(breaker, at), at)
    assert breaker.state(2) == "open"
    assert breaker.admit(5) == Refused(7.0)


def test_when_its_time_is_over_one_call_goes_as_a_probe_and_success_closes_it():
    breaker = opened()
    probe = admitted(breaker, 10)
    assert probe.probe
    assert breaker.state(10) == "half_open"
    assert breaker.admit(11) == Refused(10.0)
    breaker.succeeded(probe)
    assert breaker.state(11) == "closed"
    # Settled again, by mistake, it changes nothing.
    breaker.failed(probe, 11)
    assert breaker.state(11) == "closed"
    assert not admitted(breaker, 11).probe


def test_a_probe_that_fails_opens_it_again_for_its_whole_time():
    breaker = opened()
    breaker.failed(admitted(breaker, 10), 12)
    assert breaker.admit(21.5) == Refused(0.5)
    assert admitted(breaker, 22).probe


def test_a_cancelled_probe_gives_its_place_to_the_next_call():
    breaker = opened()
    probe = admitted(breaker, 10)
    breaker.withdrawn(probe)
    breaker.failed(probe, 10)
    assert breaker.state(10) == "half_open"
    second = admitted(breaker, 10)
    assert second.probe
    # The first is over, whatever is still said of it.
    breaker.withdrawn(probe)
    breaker.failed(probe, 10)
    breaker.succeeded(probe)
    assert isinstance(breaker.admit(10), Refused)
    breaker.succeeded(second)
    assert breaker.state(10) == "closed"


def test_a_probe_that_nobody_settles_is_lost_in_time():
    breaker = opened()
    lost = admitted(breaker, 10)
    assert breaker.admit(30) == Refused(5.0)
    assert admitted(breaker, 35).probe
    breaker.succeeded(lost)
    assert breaker.state(35) == "half_open"


def test_what_was_admitted_before_it_opened_decides_nothing_after():
    breaker = CircuitBreaker(Breaker(FAILURES, OPEN_SECONDS), PROBE_SECONDS)
    late = [admitted(breaker, 0) for _ in range(3 * FAILURES)]
    for _ in range(FAILURES):
        breaker.failed(late.pop(), 1)
    breaker.succeeded(late.pop())
    assert breaker.state(1) == "open"
    for _ in range(FAILURES):
        breaker.failed(late.pop(), 9)
    assert breaker.state(11) == "half_open"
    breaker.succeeded(admitted(breaker, 11))
    assert len(late) < FAILURES
    for one in late:
        breaker.failed(one, 12)
    breaker.failed(admitted(breaker, 12), 12)
    assert breaker.state(12) == "closed"


class Breaking(RuleBasedStateMachine):
    """Calls come and end in any order, while a plain list of what happened tells how the breaker must stand."""

    tries = Bundle("tries")

    def __init__(self) -> None:
        super().__init__()
        self.breaker = CircuitBreaker(Breaker(FAILURES, OPEN_SECONDS), PROBE_SECONDS)
        self.now = 0.0
        self.opened_at: float | None = None
        self.outcomes: list[bool] = []
        """Of this closed period."""
        self.current: set[int] = set()
        """The tries that still decide: those of this closed period, or the probe."""
        self.probe_at: float | None = None
        self.number = 0

    @rule(seconds=st.sampled_from([0.0, 1.0, 9.5, 10.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=tries)
    def a_call_asks(self) -> tuple[int, Admitted | None]:
        self.number += 1
        came = self.breaker.admit(self.now)
        if self.opened_at is None:
            assert isinstance(came, Admitted) and not came.probe
            self.current.add(self.number)
            return self.number, came
        probing = self.probe_at is not None and self.now - self.probe_at < PROBE_SECONDS
        if self.now - self.opened_at < OPEN_SECONDS or probing:
            assert isinstance(came, Refused) and 0 < came.seconds <= OPEN_SECONDS
            return self.number, None
        assert isinstance(came, Admitted) and came.probe
        self.probe_at = self.now
        self.current = {self.number}
        return self.number, came

    @rule(one=consumes(tries), how=st.sampled_from(["worked", "failed", "withdrawn"]))
    def a_call_ends(self, one: tuple[int, Admitted | None], how: str) -> None:
        number, came = one
        if came is None:
            return
        if how == "worked":
            self.breaker.succeeded(came)
        elif how == "failed":
            self.breaker.failed(came, self.now)
        else:
            self.breaker.withdrawn(came)
        if number not in self.current:
            return
        self.current.remove(number)
        if how == "withdrawn":
            self.probe_at = None
        elif came.probe:
            self._turn(None if how == "worked" else self.now)
        else:
            self.outcomes.append(how == "worked")
            if self.outcomes[-FAILURES:] == [False] * FAILURES:
                self._turn(self.now)

    def _turn(self, opened_at: float | None) -> None:
        self.opened_at, self.probe_at = opened_at, None
        self.outcomes.clear()
        self.current.clear()

    @invariant()
    def it_stands_as_what_happened_says(self) -> None:
        state = self.breaker.state(self.now)
        if self.opened_at is None:
            assert state == "closed"
        else:
            assert state == ("open" if self.now - self.opened_at < OPEN_SECONDS else "half_open")


TestBreaking = Breaking.TestCase
TestBreaking.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
