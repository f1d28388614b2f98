ws = new WebSocket("wss://example.com/wss");
ws.onmessage = (e) => console.log(e.data);
ws.onopen = () => ws.send("tom");
