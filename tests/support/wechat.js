// A stand-in for what a page of a WeChat mini program has: Page and wx.connectSocket, over the
// package ws. It keeps the platform's rules on scheme, domain, TLS version and number of sockets:
// https://developers.weixin.qq.com/miniprogram/dev/framework/ability/network.html
//
//   node wechat.js PAGE.js DOMAIN
//
// DOMAIN is the one registered domain; it leads to 127.0.0.1. Each line on standard input is the
// name of a method of the page, to be called; each setData and each warning is a line of JSON.
"use strict";
const fs = require("fs");
const net = require("net");
const readline = require("readline");
const vm = require("vm");
const WebSocket = require("ws");

const MAX_SOCKETS = 5;
const [file, domain] = process.argv.slice(2);
let sockets = 0;
let page;

function say(kind, value) {
  console.log(JSON.stringify({ [kind]: value }));
}

function refusal(url) {
  const { protocol, hostname } = new URL(url);
  if (protocol !== "wss:") return "the protocol is not wss";
  if (net.isIP(hostname) || hostname === "localhost") return "an address is no domain";
  if (hostname !== domain) return "url not in domain list";
  if (sockets === MAX_SOCKETS) return "exceed max task count";
  return null;
}

const wx = {
  connectSocket({ url, timeout, fail = () => {} }) {
    const listeners = {};
    const tell = (name, result) => (listeners[name] || (() => {}))(result);
    const reason = refusal(url);
    let socket = null;
    if (reason) {
      setImmediate(fail, { errMsg: `connectSocket:fail ${reason}` });
    } else {
      sockets += 1;
      socket = new WebSocket(url, {
        handshakeTimeout: timeout,
        minVersion: "TLSv1.2",
        lookup: (name, options, found) => found(null, [{ address: "127.0.0.1", family: 4 }]),
        autoSelectFamily: true,
        perMessageDeflate: false,
      });
      socket.on("open", () => tell("open", {}));
      socket.on("message", (data, isBinary) => {
        const bytes = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
        tell("message", { data: isBinary ? bytes : data.toString() });
      });
      socket.on("error", (error) => tell("error", { errMsg: error.message }));
      socket.on("close", (code, text) => {
        sockets -= 1;
        tell("close", { code, reason: text.toString() });
      });
    }
    return {
      send: ({ data }) => socket.send(data),
      close: ({ code = 1000, reason: text = "" } = {}) => socket && socket.close(code, text),
      onOpen: (listener) => { listeners.open = listener; },
      onMessage: (listener) => { listeners.message = listener; },
      onError: (listener) => { listeners.error = listener; },
      onClose: (listener) => { listeners.close = listener; },
    };
  },
};

function Page(definition) {
  page = {
    ...definition,
    data: JSON.parse(JSON.stringify(definition.data)),
    setData(values) {
      Object.assign(this.data, values);
      say("data", this.data);
    },
  };
}

const warn = (text) => say("warning", text);
vm.runInNewContext(fs.readFileSync(file, "utf8"), {
  Page, wx, setTimeout, clearTimeout, console: { warn },
});
readline.createInterface({ input: process.stdin }).on("line", (name) => page[name]());
