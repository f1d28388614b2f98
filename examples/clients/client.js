// Talk to a WSS service, and reconnect when the connection is lost.
//   npm install ws
//   node client.js wss://example.com/wss
"use strict";
const WebSocket = require("ws");

const MIN_DELAY = 500, MAX_DELAY = 30000; // milliseconds
const MAX_SILENCE = 60000; // The server pings every 25 s: after this time without a ping, it is gone.
const FINAL = [1000, 1008]; // Closed on purpose: do not reconnect.
let delay = MIN_DELAY;

function connect(address) {
  const ws = new WebSocket(address, { handshakeTimeout: 10000 });
  let watchdog;
  const alive = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => ws.terminate(), MAX_SILENCE);
  };
  ws.on("open", () => {
    alive();
    ws.send("tom");
  });
  ws.on("ping", alive);
  ws.on("message", (data, isBinary) => {
    alive();
    delay = MIN_DELAY;
    console.log("received", isBinary ? data : data.toString());
  });
  ws.on("error", (error) => console.log("failed:", error.message)); // "close" follows.
  ws.on("close", (code) => {
    clearTimeout(watchdog);
    console.log("closed", code);
    if (FINAL.includes(code)) return;
    // Full jitter: clients that lost one server together do not reconnect at once.
    setTimeout(connect, Math.random() * delay, address);
    delay = Math.min(2 * delay, MAX_DELAY);
  });
}

connect(process.argv[2]);
