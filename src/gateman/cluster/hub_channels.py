"""The methods of the hub about channels: publish with more than a message, read, and forget."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from ..errors import BusError, ConfigError, EnvelopeError, HubError
from ..options import check_flag
from .confirmation import Confirmation
from .envelope import Target
from .hub_actions import HubActions, Message
from .names import PERSONAL, check_group, check_uid
from .node_channels import position_of
from .publication import (
    BINARY,
    PACKED,
    TEXT,
    ClientInfo,
    PackedPublication,
    as_message,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from ..history.base import Position

# Publications; more are read in pages.
_MAX_LIMIT = 1000

# Characters; a key is a name that the publisher chooses, such as a UUID.
_MAX_KEY_SIZE = 255


class KeptPublication(Struct, frozen=True):
    """
    A publication that is kept in the history of a channel.

    Attributes:
        offset: Its place in the channel; offsets grow, and are not contiguous.
        data: What was published: a JSON value, or ``bytes``; also for JSON with a number that
            Python does not have, such as 1e999.
        info: The client that published it; ``None`` if the server did.
        tags: What was added to it.
    """

    offset: int
    data: Any
    info: ClientInfo | None
    tags: dict[str, str]


class ChannelHistory(Struct, frozen=True):
    """
    What is kept of a channel, or a page of it.

    Attributes:
        publications: In order, or the last one first.
        position: The end of the channel.
    """

    publications: list[KeptPublication]
    position: "Position"


class HubChannels(HubActions):
    """What a :class:`~.hub.Hub` does with channels."""

    __slots__ = ()

    def publish(
        self,
        channel: str,
        message: Message,
        *,
        tags: Mapping[str, str] | None = None,
        skip_history: bool = False,
        idempotency_key: str = "",
    ) -> "Confirmation[Position | None]":
        """
        Publish to a channel, as :meth:`send_to_group` and :meth:`send_to_uid` do, with more.

        Args:
            channel: A group, or a user's personal channel: ``#`` and the uid.
            message: ``str`` goes out as text, anything bytes-like as binary, other values as JSON.
            tags: Texts that SDK clients get with it.
            skip_history: Only clients that are connected now get it; it is not kept.
            idempotency_key: Of several publications to the channel with this key within a few
                minutes, the first one is published. It has an effect only with history.

        Returns:
            May be awaited: the position of the publication, or ``None`` in a channel without
            history.

        Raises:
            ConfigError: The channel, the tags or the key are not valid.
            HubError: When awaited: the store of history is away, or refuses it. Then it may have
                been published; to try again, use a key.
        """
        target, name = _target_of(channel)
        kind, payload = as_message(message)
        packed = PackedPublication(kind, payload, tags=_check_tags(tags or {}))
        check_flag("skip_history", skip_history)
        if not _is_text(idempotency_key) or len(idempotency_key) > _MAX_KEY_SIZE:
            raise ConfigError(
                f"idempotency_key={idempotency_key!r:.40} is not a key",
                f"use a text of up to {_MAX_KEY_SIZE} characters",
            )
        sender, data = self.local_node.sender, pack(packed) if packed.tags else payload
        kind = PACKED if packed.tags else kind
        if skip_history:
            sender.send(target, (name,), kind, data, skips_history=True)
            return Confirmation(position_of, ((),))
        sent = sender.send(target, (name,), kind, data, key=idempotency_key)
        return Confirmation(position_of, (sent,))

    async def history(
        self,
        channel: str,
        *,
        limit: int = 100,
        since: "Position | None" = None,
        is_reverse: bool = False,
    ) -> ChannelHistory:
        """
        Read what is kept of a channel.

        Args:
            channel: A group, or a user's personal channel: ``#`` and the uid.
            limit: How many publications, at most 1000; 0 for the position alone.
            since: Only what follows on this position; with ``is_reverse``, what is before it.
            is_reverse: Begin with the last one.

        Returns:
            The publications and the end of the channel. Of a position of another epoch there are
            none.

        Raises:
            ConfigError: The channel or the limit is not valid.
            HubError: The channel has no history, or the store of history is away.
        """
        target, name = _target_of(channel)
        if type(limit) is not int or not 0 <= limit <= _MAX_LIMIT:
            raise ConfigError(f"limit={limit!r} cannot work", f"use 0 to {_MAX_LIMIT}")
        check_flag("is_reverse", is_reverse)
        _check_position(since)
        history = self.local_node.channels.history
        if history is None or history.limits(target, name) is None:
            raise HubError(f"the channel {channel!r} has no history")
        try:
            page = await history.store.read(
                channel, limit=limit, since=since, is_reverse=is_reverse
            )
        except BusError as error:
            raise HubError(f"the history cannot be read: {_told(error)}") from None
        kept: list[KeptPublication] = []
        for message in page.messages:
            try:
                packed = unpack(message.payload)
            except EnvelopeError:
                continue
            kept.append(KeptPublication(message.offset, _value(packed), packed.info, packed.tags))
        return ChannelHistory(kept, page.position)

    async def remove_history(self, channel: str) -> None:
        """
        Forget the messages that are kept of a channel.

        Args:
            channel: A group, or a user's personal channel: ``#`` and the uid.

        Raises:
            ConfigError: The channel is not valid.
            HubError: The channel has no history, or the store of history is away.
        """
        target, name = _target_of(channel)
        history = self.local_node.channels.history
        if history is None or history.limits(target, name) is None:
            raise HubError(f"the channel {channel!r} has no history")
        try:
            await history.store.remove(channel)
        except BusError as error:
            raise HubError(f"the history cannot be removed: {_told(error)}") from None


def _target_of(channel: str) -> tuple[Target, str]:
    if str(channel).startswith(PERSONAL):
        return Target.UIDS, check_uid(channel[1:])
    return Target.GROUPS, check_group(channel)


def _told(error: BusError) -> str:
    return str(error).removesuffix(".")


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_position(since: object) -> None:
    if since is None:
        return
    # Imported here, as only few programs read the history.
    from ..history.base import Position

    if not isinstance(since, Position) or [*map(type, since)] != [str, int]:
        raise ConfigError(
            f"since={since!r:.60} is not a position",
            "use the position of a history or of a publication",
        )


def _check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(tags, Mapping):
        raise ConfigError(f"tags={tags!r:.40} are not a mapping", "give texts by name")
    texts: list[object] = [*tags, *tags.values()]
    for text in texts:
        if not _is_text(text):
            raise ConfigError(f"{text!r:.40} in tags is not text", "give texts by name")
    return dict(tags)


def _value(packed: PackedPublication) -> Any:
    if packed.kind == BINARY:
        return packed.data
    if packed.kind == TEXT:
        return packed.data.decode()
    try:
        return msgspec.json.decode(packed.data)
    except (msgspec.MsgspecError, RecursionError):
        # A client has published a number that Python does not have, such as 1e999.
        return packed.data
