// Makes the official Centrifuge client run in WeChat and uni-app mini programs, which have no
// WebSocket of their own, but wx.connectSocket and uni.connectSocket.
//
//   const { Centrifuge } = require("centrifuge");
//   const { miniProgram } = require("./gateman-mini-program.js");
//   const centrifuge = new Centrifuge("wss://example.com/wss", miniProgram(wx));   // or uni
//
// Printed by `gateman client wechat`; its types by `gateman client wechat --types`. It is part of
// gateman, under the MIT licence.
"use strict";

const CONNECTING = 0, OPEN = 1, CLOSING = 2, CLOSED = 3;
const CLOSE_TIMEOUT = 5000; // milliseconds: some phones never report the close of a lost connection
const ABNORMAL = 1006; // RFC 6455, 7.4.1: there was no close frame.

function miniProgram(platform, socketOptions) {
  return {
    websocket: webSocketClass(platform, socketOptions),
    networkEventTarget: networkEvents(platform),
  };
}

// The part of the WebSocket interface of browsers that a client library uses.
function webSocketClass(platform, socketOptions) {
  class MiniProgramWebSocket {
    constructor(url, protocols) {
      this.url = url;
      this.protocol = "";
      this.binaryType = "arraybuffer"; // The only one that the platforms have.
      this.readyState = CONNECTING;
      this.onopen = this.onmessage = this.onerror = this.onclose = null;
      this._timer = null;
      const options = Object.assign({}, socketOptions, {
        url,
        // Such as: the domain is not registered. Later, when the client listens.
        fail: ({ errMsg }) => setTimeout(() => this._fail(errMsg), 0),
        // Without one of its callbacks, uni-app returns a promise in place of the socket.
        complete: () => {},
      });
      if (protocols && protocols.length) options.protocols = [].concat(protocols);
      const task = platform.connectSocket(options);
      this._task = task;
      // A platform that refuses at once may return nothing, and calls `fail`.
      if (!task) return;
      task.onOpen(() => {
        if (this.readyState === CONNECTING) {
          this.readyState = OPEN;
          this._tell("onopen", { type: "open" });
        } else {
          // Closed by the client while it was opening, which some versions ignore.
          task.close({ code: 1000 });
        }
      });
      task.onMessage(({ data }) => {
        if (this.readyState === OPEN) this._tell("onmessage", { type: "message", data });
      });
      task.onError(({ errMsg }) => this._fail(errMsg));
      task.onClose(({ code, reason } = {}) => this._end(code, reason));
    }

    send(data) {
      if (this.readyState === CONNECTING) throw new Error("the connection is not open yet");
      if (this.readyState !== OPEN) return;
      if (ArrayBuffer.isView(data)) {
        // The platforms send the whole buffer below a view.
        data = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
      }
      this._task.send({ data, fail: ({ errMsg }) => this._fail(errMsg) });
    }

    close(code, reason) {
      if (this.readyState === CLOSING || this.readyState === CLOSED) return;
      this.readyState = CLOSING;
      this._timer = setTimeout(() => this._end(ABNORMAL, "no close frame"), CLOSE_TIMEOUT);
      if (this._task) this._task.close({ code: code || 1000, reason: reason || "", fail: () => {} });
    }

    // After an error, some versions report the close too, and some do not.
    _fail(message) {
      if (this.readyState === CLOSED) return;
      this._tell("onerror", { type: "error", message });
      const task = this._task;
      const wasOpen = this.readyState === OPEN;
      this._end(ABNORMAL, message);
      if (wasOpen) task.close({ code: 1000, fail: () => {} });
    }

    _end(code = ABNORMAL, reason = "") {
      if (this.readyState === CLOSED) return;
      this.readyState = CLOSED;
      clearTimeout(this._timer);
      // Some phones lose the reason, without which the SDK does not see that a code is final.
      if (!reason && code >= 3000) reason = "closed by the server";
      this._tell("onclose", { type: "close", code, reason, wasClean: code !== ABNORMAL });
    }

    _tell(name, event) {
      if (this[name]) this[name](event);
    }
  }
  Object.assign(MiniProgramWebSocket, { CONNECTING, OPEN, CLOSING, CLOSED });
  return MiniProgramWebSocket;
}

// Tells the client when to reconnect at once: the network is back, or the mini program is shown again.
function networkEvents(platform) {
  let listeners = [];
  const tell = (type) => listeners.filter((one) => one.type === type).forEach((one) => one.listener({ type }));
  const watched = {
    NetworkStatusChange: ({ isConnected }) => tell(isConnected ? "online" : "offline"),
    AppShow: () => tell("online"),
  };
  // Called as platform.onAppShow(...), and platform.offAppShow(...).
  const watch = (onOrOff) => Object.keys(watched).forEach((name) => {
    if (platform[onOrOff + name]) platform[onOrOff + name](watched[name]);
  });
  return {
    addEventListener(type, listener) {
      if (listeners.length === 0) watch("on");
      listeners.push({ type, listener });
    },
    removeEventListener(type, listener) {
      const before = listeners.length;
      listeners = listeners.filter((one) => one.type !== type || one.listener !== listener);
      if (before > 0 && listeners.length === 0) watch("off");
    },
  };
}

module.exports = { miniProgram, webSocketClass, networkEvents };
