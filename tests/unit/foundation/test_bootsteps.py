"""Order, all-or-nothing, and stopping: once, twice, half-started, from many threads, in time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from opsq.bootsteps import Bootstep, Graph, Provided
from opsq.errors import ConfigError, LifecycleError, StartError, StopTimeout, UsageError


class A:
    """What step a provides."""


class B:
    """What step b provides."""


class C:
    """What step c provides."""


class Recording(Bootstep[Any]):
    """A step that writes down what happened to it."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary

    def start(self, up: Provided) -> Any:
        for kind in self.requires:
            assert isinstance(up[kind], kind)
        self.diary.append(f"+{self.name}")
        return self.provides() if self.provides else None

    def stop(self, deadline: float) -> None:
        self.diary.append(f"-{self.name}")


def step(
    name: str,
    diary: list[str],
    *,
    requires: Sequence[type] = (),
    provides: type | None = None,
    start: Callable[[], Any] | None = None,
    stop: Callable[[float], None] | None = None,
) -> Bootstep[Any]:
    """A recording step of a class of its own; start and stop replace what it does."""

    def run(self: Recording, up: Provided) -> Any:
        value = Recording.start(self, up)
        return start() if start else value

    def end(self: Recording, deadline: float) -> None:
        Recording.stop(self, deadline)
        if stop:
            stop(deadline)

    body = {"name": name, "requires": tuple(requires), "provides": provides, "start": run, "stop": end}
    return type(f"Step_{name}", (Recording,), body)(diary)


def fail(message: str) -> Callable[..., None]:
    def raise_it(*_: object) -> None:
        raise OSError(message)

    return raise_it


class TestOrder:
    def test_needs_come_first_and_ties_go_by_name(self) -> None:
        diary: list[str] = []
        steps = [
            step("z", diary, provides=A),
            step("c", diary, requires=[A], provides=B),
            step("b", diary, requires=[A]),
            step("a", diary, requires=[B]),
            step("free", diary),
        ]
        for _ in range(20):
            random.shuffle(steps)
            assert Graph(steps).order() == ["free", "z", "b", "c", "a"]

    def test_explain(self) -> None:
        graph = Graph([step("pool", [], requires=[A], provides=B), step("connection", [], provides=A)])
        assert graph.explain() == "  1. connection  gives A\n  2. pool        needs A  gives B"

    def test_every_wiring_fault_is_told_at_once(self) -> None:
        with pytest.raises(ConfigError) as caught:
            Graph(
                [
                    step("one", [], provides=A),
                    step("two", [], provides=A),
                    step("two", [], requires=[C]),
                    step("three", [], provides=B),
                ],
                {B: B()},
            )
        assert [fault.problem for fault in caught.value.faults] == [
            "steps one and two both provide A",
            "two steps are called two",
            "step three provides B, which is already given",
            "step two needs C, which no step provides",
        ]

    def test_a_circle_is_named(self) -> None:
        with pytest.raises(ConfigError, match=r"steps need each other in a circle: a -> b -> c -> a"):
            Graph(
                [
                    step("a", [], requires=[B], provides=A),
                    step("b", [], requires=[C], provides=B),
                    step("c", [], requires=[A], provides=C),
                    step("d", [], requires=[A]),
                ]
            )

    def test_a_step_without_a_name_is_called_by_its_class(self) -> None:
        class Mailbox(Bootstep[None]):
            """Unnamed."""

        assert Graph([Mailbox()]).order() == ["Mailbox"]


class TestStart:
    def test_starts_in_order_and_stops_newest_first(self) -> None:
        diary: list[str] = []
        graph = Graph([step("b", diary, requires=[A]), step("a", diary, provides=A)])
        graph.start()
        assert graph.running() == ["a", "b"]
        assert isinstance(graph.provided[A], A)
        graph.stop()
        assert diary == ["+a", "+b", "-b", "-a"]
        assert A not in graph.provided

    def test_start_and_stop_twice_do_nothing_more(self) -> None:
        diary: list[str] = []
        graph = Graph([step("a", diary)])
        graph.stop()
        graph.start()
        graph.start()
        graph.stop()
        graph.stop()
        assert diary == ["+a", "-a"]

    def test_a_stopped_graph_can_start_again(self) -> None:
        diary: list[str] = []
        graph = Graph([step("a", diary, provides=A)])
        for _ in range(2):
            graph.start()
            graph.stop()
        assert diary == ["+a", "-a"] * 2

    def test_a_failure_unwinds_the_half_started_step_too(self) -> None:
        diary: list[str] = []
        steps = [step("a", diary), step("b", diary, start=fail("no socket")), step("c", diary)]
        graph = Graph(steps)
        with pytest.raises(StartError, match=r"^b could not start: no socket$") as caught:
            graph.start()
        assert caught.value.step == "b"
        assert caught.value.started == ("a",)
        assert isinstance(caught.value.__cause__, OSError)
        assert diary == ["+a", "+b", "-b", "-a"]
        assert graph.running() == []

    def test_an_error_while_unwinding_is_noted_and_hides_nothing(self) -> None:
        diary: list[str] = []
        graph = Graph([step("a", diary, stop=fail("stuck")), step("b", diary, start=fail("no socket"))])
        with pytest.raises(StartError) as caught:
            graph.start()
        assert caught.value.__cause__ is not None
        assert caught.value.__cause__.__notes__ == ["while unwinding, a failed to stop: stuck"]

    def test_a_config_error_keeps_its_exit_code(self) -> None:
        def refuse() -> None:
            raise ConfigError("bad url")

        with pytest.raises(StartError) as caught:
            Graph([step("a", [], start=refuse)]).start()
        assert caught.value.exit_code == ConfigError.exit_code

    def test_ctrl_c_unwinds_and_stays_ctrl_c(self) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        diary: list[str] = []
        graph = Graph([step("a", diary), step("b", diary, start=interrupt)])
        with pytest.raises(KeyboardInterrupt):
            graph.start()
        assert diary == ["+a", "+b", "-b", "-a"]

    def test_a_promise_not_kept_is_caught_at_the_step_that_made_it(self) -> None:
        with pytest.raises(StartError, match=r"a promises a A but its start returned B"):
            Graph([step("a", [], provides=A, start=B)]).start()

    def test_a_step_must_not_stop_its_own_graph(self) -> None:
        graphs: list[Graph] = []
        graphs.append(Graph([step("a", [], start=lambda: graphs[0].stop())]))
        with pytest.raises(StartError, match=r"a step called stop on the graph that is starting"):
            graphs[0].start()


class TestStop:
    def test_every_error_is_collected(self) -> None:
        diary: list[str] = []
        graph = Graph([step("a", diary, stop=fail("x")), step("b", diary), step("c", diary, stop=fail("y"))])
        graph.start()
        with pytest.raises(LifecycleError, match=r"2 step\(s\) failed to stop \(c: y; a: x\)") as caught:
            graph.stop()
        assert isinstance(caught.value.__cause__, ExceptionGroup)
        assert diary[3:] == ["-c", "-b", "-a"]

    def test_all_share_one_deadline_and_the_late_are_named(self) -> None:
        deadlines: list[float] = []

        def linger(deadline: float) -> None:
            deadlines.append(deadline)
            threading.Event().wait(max(0.0, deadline - time.monotonic()) + 0.02)

        graph = Graph([step("a", [], stop=deadlines.append), step("b", [], stop=linger)])
        graph.start()
        with pytest.raises(StopTimeout, match=r"^b had not stopped within 0.05 s"):
            graph.stop(0.05)
        assert len(set(deadlines)) == 1
        assert len(deadlines) == 2

    def test_a_stop_during_a_start_makes_it_give_up(self) -> None:
        diary: list[str] = []
        entered, go_on = threading.Event(), threading.Event()

        def slow() -> None:
            entered.set()
            assert go_on.wait(30)

        graph = Graph([step("a", diary, start=slow), step("b", diary)])
        failures: list[BaseException] = []

        def start() -> None:
            try:
                graph.start()
            except StartError as error:
                failures.append(error)

        starter = threading.Thread(target=start)
        starter.start()
        assert entered.wait(30)
        stopper = threading.Thread(target=graph.stop)
        stopper.start()
        while not graph._stops_waiting:
            threading.Event().wait(0.001)
        go_on.set()
        starter.join(30)
        stopper.join(30)
        assert [str(error) for error in failures] == ["b could not start: stop was asked for while starting"]
        assert diary == ["+a", "-b", "-a"]

    def test_a_stop_that_cannot_get_in_says_so(self) -> None:
        entered, go_on = threading.Event(), threading.Event()

        def slow() -> None:
            entered.set()
            assert go_on.wait(30)

        graph = Graph([step("a", [], start=slow)])
        starter = threading.Thread(target=graph.start)
        starter.start()
        assert entered.wait(30)
        with pytest.raises(StopTimeout, match=r"another thread was still starting or stopping after 0.01 s"):
            graph.stop(0.01)
        go_on.set()
        starter.join(30)
        graph.stop()


class Counting(Bootstep[Any]):
    """Counts how often it is up; more than once, or less than never, is a bug of the graph."""

    name: ClassVar[str] = "counting"

    def __init__(self) -> None:
        self.up = 0
        self.starts = 0
        self.wrong: list[str] = []

    def start(self, up: Provided) -> Any:
        self.up += 1
        self.starts += 1
        if self.up != 1:
            self.wrong.append(f"started while up {self.up}")
        return A()

    def stop(self, deadline: float) -> None:
        # stop may come for a step that never started, but then nothing is up
        self.up = max(0, self.up - 1)


class First(Counting):
    """Provides."""

    name = "first"
    provides = A


class Second(Counting):
    """Requires."""

    name = "second"
    requires = (A,)


def test_stress_ten_threads_fifty_rounds() -> None:
    first, second = First(), Second()
    graph = Graph([second, first])
    surprises: list[BaseException] = []
    barrier = threading.Barrier(10)

    def hammer(seed: int) -> None:
        dice = random.Random(seed)
        barrier.wait(10)
        for _ in range(50):
            try:
                if dice.random() < 0.5:
                    graph.start()
                else:
                    graph.stop()
            except StartError as error:
                if "stop was asked for" not in str(error):
                    surprises.append(error)
            except BaseException as error:  # noqa: BLE001  the point of the test
                surprises.append(error)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    graph.stop()
    assert surprises == []
    assert first.wrong == second.wrong == []
    assert first.up == second.up == 0
    assert first.starts > 0
    graph.start()
    assert (first.up, second.up) == (1, 1)
    graph.stop()


class TestProvided:
    def test_looks_in_the_parent_live(self) -> None:
        parent = Provided()
        child = Provided(parent=parent)
        assert child.get(A) is None
        a = A()
        parent.add(A, a)
        assert child[A] is a
        assert child.types() == {A}

    def test_a_missing_type_is_named_with_what_there_is(self) -> None:
        with pytest.raises(UsageError, match=r"nothing provides B here; .* present are: A"):
            Provided({A: A()})[B]

    def test_a_connection_graph_uses_what_the_process_graph_provides(self) -> None:
        process = Graph([step("a", [], provides=A)])
        with pytest.raises(ConfigError):
            Graph([step("b", [], requires=[A])], process.provided)
        process.start()
        connection = Graph([step("b", [], requires=[A])], process.provided)
        connection.start()
        connection.stop()
        assert A in process.provided
