"""A binary protocol of one's own: frames as Modbus/TCP has them. Masters read registers here."""

import struct
from dataclasses import dataclass

from gateman import PacketError, Worker

READ_REGISTERS, ILLEGAL_FUNCTION, ILLEGAL_ADDRESS = 3, b"\x01", b"\x02"
registers = list(range(100))


@dataclass
class Frame:
    transaction: int
    unit: int
    function: int
    data: bytes


class Modbus:
    def packet_size(self, data):
        if len(data) < 6:
            return None
        _transaction, protocol, length = struct.unpack_from("!HHH", data)
        if protocol != 0 or not 2 <= length <= 254:
            raise PacketError("not_modbus", "the header of a frame is not of Modbus/TCP")
        return 6 + length

    def decode(self, packet):
        transaction, _protocol, _length, unit, function = struct.unpack_from("!HHHBB", packet)
        return Frame(transaction, unit, function, packet[8:])

    def encode(self, frame):
        if not isinstance(frame, Frame):
            raise ValueError("only a Frame can be sent")  # noqa: TRY004 - ValueError: not encodable
        length = 2 + len(frame.data)
        head = struct.pack("!HHHBB", frame.transaction, 0, length, frame.unit, frame.function)
        return head + frame.data


worker = Worker("tcp://0.0.0.0:5020", protocol=Modbus)


def refusal(frame, reason):
    return Frame(frame.transaction, frame.unit, frame.function | 0x80, reason)


@worker.on_message
def answer(connection, frame):
    if frame.function != READ_REGISTERS or len(frame.data) != 4:
        connection.send(refusal(frame, ILLEGAL_FUNCTION))
        return
    start, count = struct.unpack("!HH", frame.data)
    if not 1 <= count <= 125 or start + count > len(registers):
        connection.send(refusal(frame, ILLEGAL_ADDRESS))
        return
    values = struct.pack(f"!B{count}H", 2 * count, *registers[start : start + count])
    connection.send(Frame(frame.transaction, frame.unit, frame.function, values))


Worker.run_all()
