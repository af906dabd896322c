"""Every framing by its name, in the simplest code: encode one message, read all messages."""

import binascii
import struct
import zlib

LENGTHS = {
    'blocks': '!I',
    'length:u8': 'B',
    'length:u16': '>H',
    'length:u16le': '<H',
    'length:u32': '>I',
    'length:u32le': '<I',
}
CHECKSUMS = {
    'cobs-crc16': ('>H', lambda message: binascii.crc_hqx(message, 0)),
    'cobs-crc32': ('>I', zlib.crc32),
}


def encode(spec, message):
    """Returns the bytes of one message on the wire."""
    kind, _, argument = spec.partition(':')
    if spec in LENGTHS:
        return struct.pack(LENGTHS[spec], len(message)) + message
    if spec == 'length:varint':
        return varint(len(message)) + message
    if spec == 'netstring':
        return b'%d:%s,' % (len(message), message)
    if spec == 'octet-counted':
        return b'%d %s' % (len(message), message)
    if spec == 'cobs':
        return cobs(message) + b'\0'
    if spec in CHECKSUMS:
        return cobs(message + checksum(spec, message)) + b'\0'
    if spec == 'lines':
        return message + b'\n'
    if kind == 'delimited':
        return message + bytes.fromhex(argument)
    if kind == 'fixed':
        assert len(message) == int(argument)
        return message
    assert spec == 'stream', spec
    return message


def end(spec):
    """Returns the mark after the last message."""
    return bytes(4) if spec == 'blocks' else b''


def decode(spec, file):
    """Yields all messages of a binary file."""
    kind, _, argument = spec.partition(':')
    if spec == 'stream':
        yield file.read()
    elif spec == 'lines':
        for line in until(file, b'\n'):
            yield line.removesuffix(b'\r')
    elif spec == 'cobs':
        for quoted in until(file, b'\0'):
            yield uncobs(quoted)
    elif spec in CHECKSUMS:
        for quoted in until(file, b'\0'):
            checked = uncobs(quoted)
            message = checked[: -len(checksum(spec, b''))]
            assert checked == message + checksum(spec, message), 'a wrong checksum'
            yield message
    elif kind == 'delimited':
        yield from until(file, bytes.fromhex(argument))
    elif kind == 'fixed':
        while message := file.read(int(argument)):
            assert len(message) == int(argument), 'cut short'
            yield message
    else:
        yield from counted(spec, file)


def counted(spec, file):
    while (length := read_length(spec, file)) is not None:
        if length == 0 and spec == 'blocks':
            return
        yield exactly(file, length)
        if spec == 'netstring':
            assert exactly(file, 1) == b','


def read_length(spec, file):
    """Returns the length before a message, or None at the end of the file."""
    first = file.read(1)
    if not first:
        assert spec != 'blocks', 'no end mark'
        return None
    if spec in LENGTHS:
        form = struct.Struct(LENGTHS[spec])
        return form.unpack(first + exactly(file, form.size - 1))[0]
    if spec == 'length:varint':
        length, shift = first[0] & 0x7F, 7
        while first[0] & 0x80:
            first = exactly(file, 1)
            length |= (first[0] & 0x7F) << shift
            shift += 7
        return length
    digits, mark = b'', {'netstring': b':', 'octet-counted': b' '}[spec]
    while first != mark:
        assert first.isdigit(), first
        digits += first
        first = exactly(file, 1)
    return int(digits)


def exactly(file, length):
    data = file.read(length)
    assert len(data) == length, 'cut short'
    return data


def until(file, delimiter):
    *messages, rest = file.read().split(delimiter)
    assert not rest, 'cut short'
    return messages


def varint(number):
    if number < 0x80:
        return bytes([number])
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7)


def cobs(message):
    """Encodes groups of up to 254 bytes, each after its length plus one; a zero follows each shorter one but the last."""
    wire = b''
    parts = message.split(b'\0')
    for number, part in enumerate(parts):
        while 254 <= len(part):
            wire, part = wire + b'\xff' + part[:254], part[254:]
            if not part and number == len(parts) - 1:
                return wire
        wire += bytes([len(part) + 1]) + part
    return wire


def checksum(spec, message):
    form, compute = CHECKSUMS[spec]
    return struct.pack(form, compute(message))


def uncobs(wire):
    message, at = b'', 0
    while at < len(wire):
        code = wire[at]
        group = wire[at + 1 : at + code]
        assert len(group) == code - 1, 'a group is cut short'
        at += code
        message += group
        if code != 255 and at < len(wire):
            message += b'\0'
    return message
