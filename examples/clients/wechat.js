// pages/chat/chat.js of a mini program.
const ADDRESS = "wss://example.com/wss";
const MIN_DELAY = 500, MAX_DELAY = 30000; // milliseconds
const FINAL = [1000, 1008]; // Closed on purpose: do not reconnect.

Page({
  data: { state: "closed", messages: [] },

  // In the background, the platform ends the connection: onShow opens it again.
  onShow() {
    this.delay = MIN_DELAY;
    this.connect();
  },
  onHide() {
    this.leave();
  },
  onUnload() {
    this.leave();
  },

  connect() {
    this.setData({ state: "connecting" });
    const task = wx.connectSocket({
      url: ADDRESS,
      timeout: 10000,
      fail: ({ errMsg }) => console.warn(errMsg), // Such as: the domain is not registered.
    });
    this.task = task;
    task.onOpen(() => {
      if (this.task !== task) return;
      this.setData({ state: "open" });
      task.send({ data: "tom" });
    });
    task.onMessage(({ data }) => {
      if (this.task !== task) return; // The page is closing.
      this.delay = MIN_DELAY;
      // A string, or an ArrayBuffer for a binary message.
      this.setData({ messages: [...this.data.messages, data].slice(-100) });
    });
    task.onError(({ errMsg }) => this.lose(task, errMsg));
    task.onClose(({ code }) => this.lose(task, `closed (${code})`, code));
  },

  // After an error, some versions report the close too and some do not: once per connection.
  lose(task, state, code) {
    if (this.task !== task) return;
    this.task = null;
    this.setData({ state });
    if (FINAL.includes(code)) return;
    // Full jitter: clients that lost one server together do not reconnect at once.
    this.timer = setTimeout(() => this.connect(), Math.random() * this.delay);
    this.delay = Math.min(2 * this.delay, MAX_DELAY);
  },

  leave() {
    clearTimeout(this.timer);
    const task = this.task;
    this.task = null;
    if (task) task.close({ code: 1000 });
    this.setData({ state: "closed" });
  },
});
