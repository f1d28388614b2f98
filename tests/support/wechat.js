// A stand-in for what a page of a WeChat mini program has: Page, require and wx.connectSocket, over
// the package ws. It keeps the platform's rules on scheme, domain, TLS version, number of sockets,
// what is sent and with which code a socket is closed:
// https://developers.weixin.qq.com/miniprogram/dev/framework/ability/network.html
//
//   node wechat.js PAGE.js DOMAIN
//
// DOMAIN is the one registered domain; it leads to 127.0.0.1. Each line on standard input is the
// name of a method of the page, to be called, or what happens to the phone: "offline", "online" or
// "shown". Each setData and each warning is a line of JSON.
"use strict";
const fs = require("fs");
const { createRequire } = require("module");
const net = require("net");
const readline = require("readline");
const vm = require("vm");
const WebSocket = require("ws");

const MAX_SOCKETS = 5;
const [file, domain] = process.argv.slice(2);
let sockets = 0;
let page;
const phone = { network: [], shown: [] };

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
  connectSocket({ url, protocols, timeout, fail = () => {} }) {
    const listeners = {};
    const tell = (name, result) => (listeners[name] || (() => {}))(result);
    const reason = refusal(url);
    let socket = null;
    if (reason) {
      setImmediate(fail, { errMsg: `connectSocket:fail ${reason}` });
    } else {
      sockets += 1;
      socket = new WebSocket(url, protocols, {
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
    const refuse = (refused, method, why) => setImmediate(refused, { errMsg: `${method}:fail ${why}` });
    return {
      send({ data, fail: refused = () => {} }) {
        // The page's ArrayBuffer is of another realm.
        const kind = Object.prototype.toString.call(data);
        if (kind !== "[object String]" && kind !== "[object ArrayBuffer]") {
          refuse(refused, "sendSocketMessage", `data is ${kind}`);
        } else if (socket.readyState !== WebSocket.OPEN) {
          refuse(refused, "sendSocketMessage", "not connected");
        } else {
          socket.send(typeof data === "string" ? data : Buffer.from(data));
        }
      },
      close({ code = 1000, reason: text = "", fail: refused = () => {} } = {}) {
        if (code !== 1000 && (code < 3000 || code > 4999)) {
          refuse(refused, "closeSocket", "the code must be 1000 or from 3000 to 4999");
        } else if (!socket || socket.readyState !== WebSocket.OPEN) {
          refuse(refused, "closeSocket", "WebSocket is not connected");
        } else {
          socket.close(code, text);
        }
      },
      onOpen: (listener) => { listeners.open = listener; },
      onMessage: (listener) => { listeners.message = listener; },
      onError: (listener) => { listeners.error = listener; },
      onClose: (listener) => { listeners.close = listener; },
    };
  },
  onNetworkStatusChange: (listener) => phone.network.push(listener),
  offNetworkStatusChange: (listener) => phone.network.splice(phone.network.indexOf(listener), 1),
  onAppShow: (listener) => phone.shown.push(listener),
  offAppShow: (listener) => phone.shown.splice(phone.shown.indexOf(listener), 1),
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
const context = vm.createContext({
  Page, wx, setTimeout, clearTimeout, setInterval, clearInterval,
  console: { warn, log() {}, info() {}, debug() {}, error: warn },
});
const loaded = {};

// Modules of the page and of npm, which WeChat's tools put into the mini program.
function load(path) {
  if (!loaded[path]) {
    loaded[path] = { exports: {} };
    const find = createRequire(path);
    const run = vm.runInContext(
      `(function (module, exports, require) {${fs.readFileSync(path, "utf8")}\n})`, context,
    );
    run(loaded[path], loaded[path].exports, (name) => load(find.resolve(name)));
  }
  return loaded[path].exports;
}

const happenings = {
  offline: () => phone.network.forEach((listener) => listener({ isConnected: false })),
  online: () => phone.network.forEach((listener) => listener({ isConnected: true })),
  shown: () => phone.shown.forEach((listener) => listener({})),
};

load(fs.realpathSync(file));
readline.createInterface({ input: process.stdin }).on("line", (name) => (happenings[name] || (() => page[name]()))());
