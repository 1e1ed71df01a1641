"""The feed: newest wins, slow subscribers learn less, nobody blocks the writer."""

from __future__ import annotations

import asyncio
import threading

from opsq.events.feed import Feed


def test_changes_merge_until_they_are_looked_at() -> None:
    """Two publications before a look are one change."""

    async def scenario() -> None:
        feed = Feed()
        async with feed.subscribe() as subscription:
            feed.publish({"a"}, {"workers"})
            feed.publish({"b"})
            change = await subscription.next(5)
            assert change is not None
            assert (change.version, change.tasks, change.regions) == (2, {"a", "b"}, {"workers"})
            assert await subscription.next(0.001) is None
            assert not subscription.ended
        assert len(feed) == 0

    asyncio.run(scenario())


def test_too_much_becomes_everything_and_is_counted() -> None:
    """A slow subscriber holds a bounded set."""

    async def scenario() -> None:
        feed = Feed(most_tasks=3)
        async with feed.subscribe() as subscription:
            feed.publish({"a", "b"})
            feed.publish({"c", "d"})
            feed.publish({"e"})
            change = await subscription.next(5)
            assert change is not None
            assert (change.everything, change.tasks) == (True, frozenset())
            assert feed.overflows == 1

    asyncio.run(scenario())


def test_a_thread_wakes_many_subscribers_and_the_end_reaches_all() -> None:
    """Publishing from another thread; closing ends every iterator."""

    async def listen(feed: Feed, ready: asyncio.Semaphore) -> int:
        last = 0
        async with feed.subscribe() as subscription:
            ready.release()
            async for change in subscription:
                last = change.version
                if last == 100:
                    break
        return last

    async def scenario() -> None:
        feed = Feed()
        ready = asyncio.Semaphore(0)
        listeners = [asyncio.create_task(listen(feed, ready)) for _ in range(20)]
        for _ in listeners:
            await ready.acquire()
        thread = threading.Thread(target=lambda: [feed.publish({str(n)}) for n in range(100)])
        thread.start()
        assert await asyncio.wait_for(asyncio.gather(*listeners), 10) == [100] * 20
        thread.join()
        idle = feed.subscribe()
        waiting = asyncio.create_task(idle.next())
        await asyncio.sleep(0)
        feed.close()
        feed.close()
        assert await asyncio.wait_for(waiting, 10) is None
        assert idle.ended
        assert feed.subscribe().ended

    asyncio.run(scenario())


def test_subscribers_are_bounded_and_a_dead_loop_is_dropped() -> None:
    """One that went away without saying so does not stay."""
    feed = Feed(most_subscribers=1)

    async def leave() -> None:
        feed.subscribe()
        assert feed.subscribe().ended

    asyncio.run(leave())
    assert len(feed) == 1
    feed.publish({"a"})
    assert len(feed) == 0
