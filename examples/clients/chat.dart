// flutter pub add centrifuge
import 'dart:convert';

import 'package:centrifuge/centrifuge.dart' as centrifuge;

Future<void> main() async {
  final client = centrifuge.createClient('wss://example.com/wss', centrifuge.ClientConfig());
  final room = client.newSubscription('chat:1', centrifuge.SubscriptionConfig());

  // Data is bytes: JSON, for clients in other languages.
  room.publication.listen((event) => print(jsonDecode(utf8.decode(event.data))));
  room.subscribed.listen((event) {
    if (event.wasRecovering && !event.recovered) print('some messages are lost');
  });

  await room.subscribe();
  await client.connect();
  await room.publish(utf8.encode(jsonEncode('tom')));
}
