"""Jobs at a time of day, and in intervals, in one process."""

import asyncio
from datetime import UTC, datetime, time, timedelta

from gateman import BusinessWorker, Worker, hub

worker = Worker("websocket://0.0.0.0:8282", count=2)
jobs = BusinessWorker(name="jobs")
tasks = []


def next_run(at, now):
    today = datetime.combine(now.date(), at, UTC)
    return today if today > now else today + timedelta(days=1)


async def every_day(at, job):
    while True:
        now = datetime.now(UTC)
        await asyncio.sleep((next_run(at, now) - now).total_seconds())
        await job()


async def report():
    hub.send_to_all(f"{await hub.count_clients()} clients are here")


@jobs.on_worker_start
def begin(jobs):
    tasks.append(asyncio.create_task(every_day(time(3, 0), report)))


@jobs.on_worker_stop
def end(jobs):
    tasks[0].cancel()


@jobs.every(60)
async def tick():
    hub.send_to_all("a minute has passed")


Worker.run_all()
