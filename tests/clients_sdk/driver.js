// Clients of the official SDK that a test tells what to do, in Node and in a browser.
//
//   node driver.js          reads a command a line, writes an answer or an event a line, in JSON
//   makeDriver(sdk, say)    in a page: perform(command) for each command, say(report) is called back
//
// A command is {"number", "client", "do", ...}; its answer is {"answer": number, "value" or "error"}.
// An event is {"client", "event", ...}. The words are those of driver.py, which does the same in Python.
"use strict";

function makeDriver({ json, protobuf, WebSocket }, say) {
  const clients = {};

  const info = (one) => one && {
    client: one.client, user: one.user, conn_info: one.connInfo ?? null, chan_info: one.chanInfo ?? null,
  };

  // With Protobuf, data is bytes: JSON, unless the test says {"base64"}.
  const codecs = {
    json: { sdk: json, encode: (data) => data, decode: (data) => data ?? null },
    protobuf: {
      sdk: protobuf,
      encode: (data) => data && data.base64 !== undefined
        ? Uint8Array.from(atob(data.base64), (letter) => letter.charCodeAt(0))
        : new TextEncoder().encode(JSON.stringify(data)),
      decode: (data) => {
        if (data === undefined || data === null || data.length === 0) return null;
        try {
          return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
        } catch {
          return { base64: btoa(String.fromCharCode(...data)) };
        }
      },
    },
  };

  // Tokens that the SDK asks for, one after the other; behind the last one there is no right any more.
  const tokens = (codec, given) => given && {
    getToken: async () => {
      if (given.length === 0) throw new codec.sdk.UnauthorizedError("no more tokens");
      return given.shift();
    },
  };

  function publication(codec, one) {
    const decoded = info(one.info);
    for (const key of ["conn_info", "chan_info"]) {
      if (decoded && decoded[key]) decoded[key] = codec.decode(decoded[key]);
    }
    return { data: codec.decode(one.data), offset: one.offset ?? 0, info: decoded ?? null, tags: one.tags ?? {} };
  }

  function member(codec, one) {
    const found = info(one);
    return { ...found, conn_info: codec.decode(found.conn_info), chan_info: codec.decode(found.chan_info) };
  }

  function subscribed(codec, one) {
    return {
      recoverable: one.recoverable,
      positioned: one.positioned,
      position: one.streamPosition ? [one.streamPosition.epoch, one.streamPosition.offset] : null,
      was_recovering: one.wasRecovering,
      recovered: one.recovered,
      data: codec.decode(one.data),
    };
  }

  // What client and subscription tell alike.
  function watch(codec, emitter, tell) {
    emitter.on("subscribing", (one) => tell("subscribing", one.channel, one.code === undefined ? {} : { code: one.code, reason: one.reason }));
    emitter.on("subscribed", (one) => tell("subscribed", one.channel, subscribed(codec, one)));
    emitter.on("unsubscribed", (one) => tell("unsubscribed", one.channel, one.code === undefined ? {} : { code: one.code, reason: one.reason }));
    emitter.on("publication", (one) => tell("publication", one.channel, publication(codec, one)));
    emitter.on("join", (one) => tell("join", one.channel, { info: member(codec, one.info) }));
    emitter.on("leave", (one) => tell("leave", one.channel, { info: member(codec, one.info) }));
  }

  const verbs = {
    open({ client: name, url, protobuf: isProtobuf = false, token, given_tokens, data, timeout = 10000, delays = [20, 200] }) {
      const codec = codecs[isProtobuf ? "protobuf" : "json"];
      const client = new codec.sdk.Centrifuge(url, {
        ...(WebSocket && { websocket: WebSocket }),
        ...(token && { token }),
        ...tokens(codec, given_tokens),
        ...(data !== undefined && { data: codec.encode(data) }),
        timeout,
        minReconnectDelay: delays[0],
        maxReconnectDelay: delays[1],
        name: "driver",
      });
      const tell = (event, fields) => say({ client: name, event, ...fields });
      for (const event of ["connecting", "disconnected"]) {
        client.on(event, ({ code, reason }) => tell(event, { code, reason }));
      }
      client.on("connected", (one) => tell("connected", { id: one.client, data: codec.decode(one.data) }));
      client.on("error", ({ error }) => tell("error", { code: error.code, message: error.message }));
      client.on("message", (one) => tell("message", { data: codec.decode(one.data) }));
      watch(codec, client, (event, channel, fields) => tell(event, { channel, server: true, ...fields }));
      clients[name] = { client, codec, tell };
    },
    connect: ({ client }) => clients[client].client.connect(),
    disconnect: ({ client }) => clients[client].client.disconnect(),
    subscribe({ client: name, channel, data, token, given_tokens, since, positioned, recoverable, join_leave, states }) {
      const { client, codec, tell } = clients[name];
      let subscription = client.getSubscription(channel);
      if (!subscription) {
        subscription = client.newSubscription(channel, {
          ...(token && { token }),
          ...tokens(codec, given_tokens),
          ...(data !== undefined && { data: codec.encode(data) }),
          ...(since && { since: { epoch: since[0], offset: since[1] } }),
          ...(states && {
            getState: async () => {
              tell("state_asked", { channel });
              const [epoch, offset] = states.shift();
              return { epoch, offset };
            },
          }),
          positioned, recoverable, joinLeave: join_leave,
          minResubscribeDelay: 20,
          maxResubscribeDelay: 200,
        });
        const report = (event, where, fields) => tell(event, { channel: where, ...fields });
        watch(codec, subscription, report);
        subscription.on("error", ({ error }) => report("error", channel, { code: error.code, message: error.message }));
      }
      subscription.subscribe();
    },
    unsubscribe: ({ client, channel }) => clients[client].client.getSubscription(channel).unsubscribe(),
    forget({ client: name, channel }) {
      const { client } = clients[name];
      client.removeSubscription(client.getSubscription(channel));
    },
    async publish({ client: name, channel, data }) {
      const { client, codec } = clients[name];
      await client.publish(channel, codec.encode(data));
    },
    async rpc({ client: name, method, data }) {
      const { client, codec } = clients[name];
      return codec.decode((await client.rpc(method, codec.encode(data))).data);
    },
    async send({ client: name, data }) {
      const { client, codec } = clients[name];
      await client.send(codec.encode(data));
    },
    async history({ client: name, channel, limit = 0, since, reverse = false }) {
      const { client, codec } = clients[name];
      const found = await client.history(channel, {
        limit, reverse, ...(since && { since: { epoch: since[0], offset: since[1] } }),
      });
      return {
        publications: found.publications.map((one) => publication(codec, one)),
        position: [found.epoch, found.offset],
      };
    },
    async presence({ client: name, channel }) {
      const { client, codec } = clients[name];
      const { clients: found } = await client.presence(channel);
      return Object.fromEntries(Object.entries(found).map(([id, one]) => [id, member(codec, one)]));
    },
    async presence_stats({ client: name, channel }) {
      const found = await clients[name].client.presenceStats(channel);
      return { clients: found.numClients, users: found.numUsers };
    },
  };

  return async function perform(command) {
    try {
      say({ answer: command.number, value: (await verbs[command.do](command)) ?? null });
    } catch (error) {
      say({ answer: command.number, error: { code: error.code ?? null, message: error.message ?? String(error) } });
    }
  };
}

if (typeof require === "function" && typeof module === "object" && require.main === module) {
  const perform = makeDriver({
    json: require("centrifuge"),
    protobuf: require("centrifuge/build/protobuf"),
    WebSocket: require("ws"),
  }, (report) => console.log(JSON.stringify(report)));
  require("readline").createInterface({ input: process.stdin })
    .on("line", (line) => perform(JSON.parse(line)))
    .on("close", () => process.exit(0));
}
