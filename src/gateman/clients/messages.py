"""
Commands, replies and pushes of the client protocol, the same for both encodings. PURE.

Names and fields are those of the protocol's schema. ``data`` and the like are as encoded by the
client or for it: JSON text in JSON, any bytes in Protobuf; empty if they are absent. Fields that
only later versions of the protocol know are ignored.
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct
from msgspec.structs import astuple

Int32 = Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)]
Uint32 = Annotated[int, Meta(ge=0, lt=1 << 32)]
# 64 bits in the schema, but no store counts so far, and databases have signed numbers.
Uint63 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]

ABSENT = Raw()


def raw(data: bytes) -> Raw:
    return Raw(data) if data else ABSENT


class _Part(Struct, omit_defaults=True, gc=False):
    """A message of the schema; not collected in cycles, of which there are none."""


class StreamPosition(_Part):
    offset: Uint63 = 0
    epoch: str = ""


class ClientInfo(_Part):
    user: str = ""
    client: str = ""
    conn_info: Raw = ABSENT
    chan_info: Raw = ABSENT


class Publication(_Part):
    data: Raw = ABSENT
    info: ClientInfo | None = None
    offset: Uint63 = 0
    tags: dict[str, str] = {}


# Commands


class SubscribeRequest(_Part):
    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Uint63 = 0
    data: Raw = ABSENT
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    flag: Uint63 = 0


class ConnectRequest(_Part):
    token: str = ""
    data: Raw = ABSENT
    subs: dict[str, SubscribeRequest] = {}
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}


class UnsubscribeRequest(_Part):
    channel: str = ""


class PublishRequest(_Part):
    channel: str = ""
    data: Raw = ABSENT


class PresenceRequest(_Part):
    channel: str = ""


class PresenceStatsRequest(_Part):
    channel: str = ""


class HistoryRequest(_Part):
    channel: str = ""
    limit: Int32 = 0
    """0 asks for the position alone, a negative number for all."""
    since: StreamPosition | None = None
    reverse: bool = False


class PingRequest(_Part):
    pass


class SendRequest(_Part):
    data: Raw = ABSENT


class RpcRequest(_Part):
    data: Raw = ABSENT
    method: str = ""


class RefreshRequest(_Part):
    token: str = ""


class SubRefreshRequest(_Part):
    channel: str = ""
    token: str = ""


Request = (
    ConnectRequest
    | SubscribeRequest
    | UnsubscribeRequest
    | PublishRequest
    | PresenceRequest
    | PresenceStatsRequest
    | HistoryRequest
    | PingRequest
    | SendRequest
    | RpcRequest
    | RefreshRequest
    | SubRefreshRequest
)


class Command(_Part):
    """What a client sends: an id and one request. One with neither is a pong."""

    id: Uint32 = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    ping: PingRequest | None = None
    send: SendRequest | None = None
    rpc: RpcRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None

    def requests(self) -> list[Request]:
        """Return its requests: one, if the client is right."""
        _, *every = astuple(self)
        return [request for request in every if request is not None]


# Replies


class Error(_Part):
    code: Uint32 = 0
    message: str = ""
    temporary: bool = False


class SubscribeResult(_Part):
    expires: bool = False
    ttl: Uint32 = 0  # seconds
    recoverable: bool = False
    epoch: str = ""
    publications: list[Publication] = []
    recovered: bool = False
    offset: Uint63 = 0
    positioned: bool = False
    data: Raw = ABSENT
    was_recovering: bool = False


class ConnectResult(_Part):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: Uint32 = 0  # seconds
    data: Raw = ABSENT
    subs: dict[str, SubscribeResult] = {}
    ping: Uint32 = 0  # seconds
    pong: bool = False
    session: str = ""
    node: str = ""


class UnsubscribeResult(_Part):
    pass


class PublishResult(_Part):
    pass


class PresenceResult(_Part):
    presence: dict[str, ClientInfo] = {}


# The SDK for JavaScript gives its application what is there, and does not add a zero.
class PresenceStatsResult(_Part, omit_defaults=False):
    num_clients: Uint32 = 0
    num_users: Uint32 = 0


class HistoryResult(_Part):
    publications: list[Publication] = []
    epoch: str = ""
    offset: Uint63 = 0


class PingResult(_Part):
    pass


class RpcResult(_Part):
    data: Raw = ABSENT


class RefreshResult(_Part):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: Uint32 = 0  # seconds


class SubRefreshResult(_Part):
    expires: bool = False
    ttl: Uint32 = 0  # seconds


# Pushes


class Join(_Part):
    info: ClientInfo | None = None


class Leave(_Part):
    info: ClientInfo | None = None


class Unsubscribe(_Part):
    code: Uint32 = 0
    reason: str = ""


class Subscribe(_Part):
    recoverable: bool = False
    epoch: str = ""
    offset: Uint63 = 0
    positioned: bool = False
    data: Raw = ABSENT


class Message(_Part):
    data: Raw = ABSENT


class Disconnect(_Part):
    code: Uint32 = 0
    reason: str = ""
    reconnect: bool = False


class Push(_Part):
    channel: str = ""
    pub: Publication | None = None
    join: Join | None = None
    leave: Leave | None = None
    unsubscribe: Unsubscribe | None = None
    message: Message | None = None
    subscribe: Subscribe | None = None
    disconnect: Disconnect | None = None


class Reply(_Part):
    """What the server sends: the answer to a command, or a push. One with neither is a ping."""

    id: Uint32 = 0
    error: Error | None = None
    push: Push | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: UnsubscribeResult | None = None
    publish: PublishResult | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    history: HistoryResult | None = None
    ping: PingResult | None = None
    rpc: RpcResult | None = None
    refresh: RefreshResult | None = None
    sub_refresh: SubRefreshResult | None = None
