// Many clients of the official SDK, in channels whose members publish numbered messages. They write
// down what each of them received and was told, for tests/support/sdk_fleet.py to compare.
//
//   node fleet.js '{"urls": [...], "clients": 40, "channels": 8, "interval": 200}'
//
// Commands, a line each: "publish", "cut SHARE" (so many lose their network now), "pause" (no more
// messages; says so when none is under way), "settle" (says so when all are subscribed), "progress"
// and "report".
"use strict";
const { Centrifuge } = require("centrifuge");
const { Centrifuge: ProtobufCentrifuge } = require("centrifuge/build/protobuf");
const WebSocket = require("ws");

const { urls, clients: count, channels, interval } = JSON.parse(process.argv[2]);
const sockets = new Set();
const members = [];
const published = { acknowledged: [], uncertain: [] };
let underWay = 0;
let isPublishing = false;
let timers = [];

const say = (report) => console.log(JSON.stringify(report));

class KnownWebSocket extends WebSocket {
  constructor(...given) {
    super(...given);
    sockets.add(this);
    this.on("close", () => sockets.delete(this));
  }
}

function member(number) {
  // A third of them speaks Protobuf.
  const isProtobuf = number % 3 === 2;
  const client = new (isProtobuf ? ProtobufCentrifuge : Centrifuge)(urls[number % urls.length], {
    websocket: KnownWebSocket, minReconnectDelay: 50, maxReconnectDelay: 1000, timeout: 10000,
  });
  const channel = `fleet:${number % channels}`;
  const subscription = client.newSubscription(channel, {
    minResubscribeDelay: 50, maxResubscribeDelay: 1000,
  });
  // What was received since the subscription, or since the client was told of a gap.
  const made = { client, subscription, channel, parts: [], ended: null, sent: 0, name: `m${number}` };
  subscription.on("subscribed", ({ wasRecovering, recovered, streamPosition: position }) => {
    // Behind a successful recovery, what was missed follows, and the position is that of its end.
    if (!wasRecovering || !recovered) {
      made.parts.push({ epoch: position.epoch, since: position.offset, messages: [] });
    }
  });
  subscription.on("publication", ({ offset, data }) => {
    const text = isProtobuf ? JSON.parse(new TextDecoder().decode(data)) : data;
    made.parts[made.parts.length - 1].messages.push([offset, text]);
  });
  subscription.on("unsubscribed", ({ code, reason }) => { made.ended = ["unsubscribed", code, reason]; });
  client.on("disconnected", ({ code, reason }) => { made.ended = ["disconnected", code, reason]; });
  made.publish = async () => {
    if (!isPublishing) return;
    // One after the other, so that the order in which they are sent is known.
    const text = `${made.name} ${made.sent++}`;
    underWay += 1;
    try {
      await subscription.publish(isProtobuf ? new TextEncoder().encode(JSON.stringify(text)) : text);
      published.acknowledged.push([channel, text]);
    } catch {
      published.uncertain.push([channel, text]);
    }
    underWay -= 1;
    timers.push(setTimeout(made.publish, interval * (0.5 + Math.random())));
  };
  subscription.subscribe();
  client.connect();
  return made;
}

function until(condition, report) {
  const look = () => condition() ? say(report) : setTimeout(look, 20);
  look();
}

const isSettled = () => members.every(({ subscription, ended }) => subscription.state === "subscribed" || ended);

const commands = {
  publish() {
    isPublishing = true;
    members.forEach((one) => one.publish());
    say({ done: "publishing" });
  },
  cut(share) {
    const all = [...sockets];
    all.filter(() => Math.random() < share).forEach((socket) => socket.terminate());
    say({ done: "cut" });
  },
  pause() {
    isPublishing = false;
    until(() => underWay === 0, { done: "paused" });
  },
  settle: () => until(isSettled, { done: "settled" }),
  progress: () => say({ done: "progress", acknowledged: published.acknowledged.length }),
  report() {
    const subscriptions = members.map(({ name, channel, parts, ended }) => ({ name, channel, parts, ended }));
    say({ subscriptions, ...published });
  },
};

for (let number = 0; number < count; number++) members.push(member(number));
require("readline").createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [name, value] = line.split(" ");
    commands[name](Number(value));
  })
  .on("close", () => process.exit(0));
