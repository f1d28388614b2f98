// Package: https://github.com/centrifugal/centrifuge-swift
import Foundation
import SwiftCentrifuge

class Room: CentrifugeSubscriptionDelegate {
    func onSubscribed(_ sub: CentrifugeSubscription, _ event: CentrifugeSubscribedEvent) {
        if event.wasRecovering && !event.recovered { print("some messages are lost") }
    }

    func onPublication(_ sub: CentrifugeSubscription, _ event: CentrifugePublicationEvent) {
        print(String(decoding: event.data, as: UTF8.self))
    }
}

class App: CentrifugeClientDelegate {}

let app = App(), room = Room() // The client does not keep them.
let client = CentrifugeClient(
    endpoint: "wss://example.com/wss", config: CentrifugeClientConfig(), delegate: app)
let chat = try client.newSubscription(channel: "chat:1", delegate: room)
chat.subscribe()
client.connect()

// Data is bytes: JSON, for clients in other languages.
chat.publish(data: try JSONEncoder().encode("tom")) { result in print(result) }
