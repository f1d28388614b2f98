"""
A web application and WebSockets on one port.

    pip install 'gateman[http]' fastapi
    python with_http.py start
    curl -d 'Order 7 is ready.' http://127.0.0.1:8282/push/orders
"""

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from gateman import Worker, hub

application = FastAPI()
worker = Worker("websocket://127.0.0.1:8282", http=application)


@application.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(
        "<h1>Orders</h1><script>"
        "new WebSocket(location.href.replace('http', 'ws'))"
        ".onmessage = (event) => document.body.append(event.data)"
        "</script>"
    )


@application.post("/push/{group}")
async def push(group: str, request: Request) -> int:
    text = (await request.body()).decode()
    return await hub.send_to_group(group, text)


@worker.on_open
def join(connection):
    connection.join("orders")


if __name__ == "__main__":
    Worker.run_all()
