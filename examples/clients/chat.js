// Print the messages of a chat, and send those that are typed.
//   npm install centrifuge ws
//   node chat.js wss://example.com/wss
"use strict";
const { Centrifuge } = require("centrifuge");
const readline = require("readline");
const WebSocket = require("ws"); // In a page, and from Node 22 on, leave it out.

const client = new Centrifuge(process.argv[2], { websocket: WebSocket });
const room = client.newSubscription("chat:1");

client.on("state", ({ newState }) => console.log(newState));
client.on("error", ({ error }) => console.log("error:", error.message));
client.on("disconnected", () => process.exit()); // The server refuses to have it back.
room.on("subscribed", ({ wasRecovering, recovered }) => {
  if (wasRecovering && !recovered) console.log("some messages are lost");
});
room.on("publication", ({ data }) => console.log("received", data));
room.subscribe();
client.connect();

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  try {
    await room.publish(line);
  } catch (error) {
    console.log("not sent:", error.message);
  }
});
