"""Jobs at a time of day, and in intervals, each run by one process of the service."""

from gateman import Worker, hub

worker = Worker("websocket://0.0.0.0:8282", count=2)


@worker.cron("0 3 * * *", timezone="Asia/Shanghai", once=True)
async def report():
    hub.send_to_all(f"{await hub.count_clients()} clients are here")


@worker.every(60, once=True)
def tick():
    hub.send_to_all("a minute has passed")


Worker.run_all()
