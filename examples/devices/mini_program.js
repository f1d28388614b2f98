// pages/devices/devices.js of a mini program. Its page shows `messages`, and calls `turnOn`.
const ADDRESS = "wss://example.com/wss";

Page({
  data: { messages: [] },

  onShow() {
    this.delay = 500; // milliseconds
    this.isShown = true;
    this.connect();
  },
  onHide() {
    this.isShown = false;
    clearTimeout(this.timer);
    this.task.close({ code: 1000 });
  },

  connect() {
    this.task = wx.connectSocket({ url: ADDRESS, timeout: 10000 });
    this.task.onMessage(({ data }) => {
      this.delay = 500;
      this.setData({ messages: [...this.data.messages, data].slice(-100) });
    });
    this.task.onClose(() => {
      if (!this.isShown) return;
      this.delay = Math.min(2 * this.delay, 30000);
      this.timer = setTimeout(() => this.connect(), Math.random() * this.delay);
    });
  },

  turnOn() {
    this.task.send({ data: "lamp on" });
  },
});
