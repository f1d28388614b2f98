// pages/chat/chat.js of a mini program.
//   npm install centrifuge                             then 工具 → 构建 npm in the developer tools
//   gateman client wechat > gateman-mini-program.js    beside this file
const { Centrifuge } = require("centrifuge");
const { miniProgram } = require("./gateman-mini-program.js");

Page({
  data: { state: "disconnected", messages: [] },

  onLoad() {
    this.client = new Centrifuge("wss://example.com/wss", miniProgram(wx)); // In uni-app: uni
    this.client.on("state", ({ newState }) => this.setData({ state: newState }));
    this.room = this.client.newSubscription("chat:1", {
      // On entering, and again only if the server cannot tell what was missed.
      getState: async () => {
        const { publications, offset, epoch } = await this.client.history("chat:1", { limit: 100 });
        this.setData({ messages: publications.map(({ data }) => data) });
        return { offset, epoch };
      },
    });
    this.room.on("publication", ({ data }) => {
      this.setData({ messages: [...this.data.messages, data].slice(-100) });
    });
    this.room.subscribe();
    this.client.connect();
  },

  send() {
    return this.room.publish("tom").catch(({ message }) => console.warn(message));
  },

  onUnload() {
    this.client.disconnect();
  },
});
