// npm install centrifuge
import { Centrifuge } from "centrifuge";
import { useCallback, useEffect, useState } from "react";

/** The messages of a channel, those before included; `client` is one for the whole application. */
export function useChannel<T>(client: Centrifuge, channel: string) {
  const [messages, setMessages] = useState<T[]>([]);
  const [state, setState] = useState("subscribing");

  useEffect(() => {
    const subscription = client.newSubscription(channel, {
      // On entering, and again only if the server cannot tell what was missed.
      getState: async () => {
        const { publications, offset, epoch } = await client.history(channel, { limit: 100 });
        setMessages(publications.map(({ data }) => data));
        return { offset, epoch };
      },
    });
    subscription.on("state", ({ newState }) => setState(newState));
    subscription.on("publication", ({ data }) => setMessages((before) => [...before, data]));
    subscription.subscribe();
    return () => {
      subscription.unsubscribe();
      client.removeSubscription(subscription);
    };
  }, [client, channel]);

  const publish = useCallback((data: T) => client.publish(channel, data), [client, channel]);
  return { messages, state, publish };
}
