-- A Wireshark dissector for the framing `blocks` and for acknowledged sessions, as blocksd speaks them over TCP.
-- ../wireshark.md says how to use it; ../sessions.md and ../framings.md describe the protocols.
--
-- `dissect` splits a TCP stream into messages. `classify` decides what each one is, once and in the order of the capture;
-- the functions in `show` put it into the tree.

local blocksd = Proto("blocksd", "blocksd telemetry")

-- Limits and names of the protocol ----------------------------------------------------------------------------------

local MAGIC_HIGH, MAGIC_LOW = 0xffc1626c, 0x6b61636b
local HELLO_MIN, HELLO_MAX = 49, 4096
local CONT_MIN, CONT_MAX = 24, 255
local WELCOME_FIXED, ACK_FIXED, ACK_TIMED, CLOSING_FIXED = 44, 8, 16, 16
local VERSION = 1

local TYPES = { [0x01] = "WELCOME", [0x02] = "ACK", [0x03] = "CONT", [0x0f] = "CLOSING" }
local CODES = {
    [1] = "version", [2] = "bad_hello", [3] = "forbidden", [4] = "full", [5] = "superseded",
    [6] = "unsupported", [7] = "again", [8] = "shutdown", [9] = "protocol", [10] = "no_session",
}
local EXTENSIONS = { [1] = "authentication token", [2] = "stream name", [5] = "proof" }

-- Preferences ------------------------------------------------------------------------------------------------------

local AS_BYTES, AS_TEXT, AS_JSON, AS_CBOR = 0, 1, 2, 3
local DECODERS = { [AS_JSON] = "json", [AS_CBOR] = "cbor" }
local prefs = blocksd.prefs
prefs.ports = Pref.range("TCP ports of the daemon", "1060", "Ports on which the daemon listens with framing=blocks", 65535)
prefs.payload = Pref.enum("Show payloads as", AS_BYTES, "How the payloads of messages are shown", {
    { 1, "bytes", AS_BYTES }, { 2, "text", AS_TEXT }, { 3, "JSON", AS_JSON }, { 4, "CBOR", AS_CBOR },
}, false)
prefs.max_length = Pref.uint("Longest message", 16777216,
    "A longer length means that the capture did not begin at the start of a message, or that these are not blocks")
prefs.assume_session = Pref.bool("Assume sessions", false,
    "Take a connection for a session although its HELLO is not in the capture")

-- Fields -----------------------------------------------------------------------------------------------------------

local f, all = {}, {}
local function field(name, make, ...)
    all[#all + 1] = make("blocksd." .. name, ...)
    f[name:gsub("%.", "_")] = all[#all]
end

field("length", ProtoField.uint32, "Length", base.DEC)
field("end", ProtoField.none, "End of series")
field("message", ProtoField.none, "Message")
field("message.number", ProtoField.uint64, "Number", base.DEC)
field("payload", ProtoField.bytes, "Payload")
field("text", ProtoField.string, "Payload")
field("rest", ProtoField.bytes, "Rest")
field("type", ProtoField.uint8, "Type", base.HEX, TYPES)

field("hello", ProtoField.none, "HELLO")
field("hello.magic", ProtoField.bytes, "Magic")
field("hello.version", ProtoField.uint8, "Version", base.DEC)
field("hello.flags", ProtoField.uint8, "Flags", base.HEX)
field("hello.flags.time", ProtoField.bool, "TIME: each ACK has the host's time", 8, nil, 0x02)
field("hello.flags.unknown", ProtoField.uint8, "Unknown", base.HEX, nil, 0xfd)
field("hello.device_length", ProtoField.uint8, "Length of the device id", base.DEC)
field("hello.heartbeat", ProtoField.uint8, "Requested heartbeat, in 10 s", base.DEC)
field("hello.room", ProtoField.uint32, "Room, in bytes", base.DEC)
field("hello.session", ProtoField.uint64, "Session", base.HEX)
field("hello.first", ProtoField.uint64, "First number in the ring", base.DEC)
field("hello.held", ProtoField.uint32, "Messages in the ring", base.DEC)
field("hello.lost", ProtoField.uint32, "Messages given up before the first", base.DEC)
field("hello.uptime", ProtoField.uint64, "Uptime, in µs", base.DEC)
field("hello.device", ProtoField.string, "Device id")

field("extension", ProtoField.none, "Extension")
field("extension.type", ProtoField.uint8, "Type", base.DEC, EXTENSIONS)
field("extension.length", ProtoField.uint8, "Length", base.DEC)
field("extension.value", ProtoField.bytes, "Value")

field("cont", ProtoField.none, "CONT")
field("cont.number", ProtoField.uint64, "Number of the next message", base.DEC)
field("cont.session", ProtoField.uint64, "Session", base.HEX)
field("cont.uptime", ProtoField.uint64, "Uptime, in µs", base.DEC)
field("cont.ping", ProtoField.bool, "The host answers with an ACK")
field("cont.gap", ProtoField.uint64, "Messages given up", base.DEC)

field("welcome", ProtoField.none, "WELCOME")
field("welcome.number", ProtoField.uint64, "Acknowledged below", base.DEC)
field("welcome.resume", ProtoField.uint64, "First number that the host does not have", base.DEC)
field("welcome.session", ProtoField.uint64, "Session", base.HEX)
field("welcome.time", ProtoField.absolute_time, "Time of the host", base.UTC)
field("welcome.block_max", ProtoField.uint32, "Longest message, in bytes", base.DEC)
field("welcome.heartbeat", ProtoField.uint16, "Heartbeat, in s", base.DEC)
field("welcome.flags", ProtoField.uint16, "Flags", base.HEX)
field("welcome.flags.synced", ProtoField.bool, "SYNCED: the host's clock is synchronised", 16, nil, 0x0001)
field("welcome.flags.new", ProtoField.bool, "NEW: another session than that of HELLO", 16, nil, 0x0002)
field("welcome.check", ProtoField.uint32, "CRC-32 of the message before", base.HEX)

field("ack", ProtoField.none, "ACK")
field("ack.number", ProtoField.uint64, "Acknowledged below", base.DEC)
field("ack.time", ProtoField.absolute_time, "Time of the host", base.UTC)
field("ack.new", ProtoField.uint64, "Newly acknowledged messages", base.DEC)

field("closing", ProtoField.none, "CLOSING")
field("closing.number", ProtoField.uint64, "Highest version of the host", base.DEC)
field("closing.code", ProtoField.uint8, "Code", base.DEC, CODES)
field("closing.retry", ProtoField.uint16, "Retry after, in s", base.DEC)
field("closing.text", ProtoField.string, "Text")

blocksd.fields = all

local group, severity = expert.group, expert.severity
local malformed = ProtoExpert.new("blocksd.malformed", "Malformed frame", group.MALFORMED, severity.ERROR)
local unframed = ProtoExpert.new("blocksd.unframed", "Not the length of a message", group.MALFORMED, severity.ERROR)
local cut = ProtoExpert.new("blocksd.cut", "The capture does not have the whole message", group.UNDECODED, severity.NOTE)
local gap = ProtoExpert.new("blocksd.gap", "The sender gave messages up", group.SEQUENCE, severity.WARN)
local closed = ProtoExpert.new("blocksd.closed", "The host ends the connection", group.RESPONSE_CODE, severity.NOTE)
local unknown = ProtoExpert.new("blocksd.unknown", "Unknown type of frame", group.UNDECODED, severity.WARN)
blocksd.experts = { malformed, unframed, cut, gap, closed, unknown }

-- What is known of each TCP connection -------------------------------------------------------------------------------

local tcp_stream = Field.new("tcp.stream")
local streams, records = {}, {}

function blocksd.init()
    streams, records = {}, {}
end

local function endpoint(address, port)
    return tostring(address) .. " " .. port
end

-- The connection of a packet. Its key is its number or, where Wireshark reads a capture without making trees, its endpoints.
local function stream_of(pinfo)
    local found = { tcp_stream() }
    -- The innermost, if one TCP connection is within another.
    local key = #found > 0 and found[#found].value
    local is_numbered = key and true
    if not is_numbered then
        local ends = { endpoint(pinfo.src, pinfo.src_port), endpoint(pinfo.dst, pinfo.dst_port) }
        table.sort(ends)
        key = table.concat(ends, " ")
    end
    streams[key] = streams[key] or { seen = {}, key = key, is_numbered = is_numbered }
    return streams[key]
end

-- Whether a HELLO is at this offset: its length and its magic.
local function is_hello(tvb, offset, length)
    return length >= HELLO_MIN and length <= HELLO_MAX and tvb:len() - offset >= 12
        and tvb(offset + 4, 4):uint() == MAGIC_HIGH and tvb(offset + 8, 4):uint() == MAGIC_LOW
end

local function is_daemon_port(port)
    for first, last in (tostring(prefs.ports) .. ","):gmatch("(%d+)%-?(%d*),") do
        first = tonumber(first)
        if port >= first and port <= (tonumber(last) or first) then
            return true
        end
    end
    return false
end

-- What a message from a device is, within a session.
local function classify_up(stream, tvb, offset, length)
    if length == 0 then
        stream.expects = "cont"
        return { what = "end" }
    elseif stream.expects == "hello" then
        stream.expects = "cont"
        return { what = "hello" }
    elseif stream.expects == "cont" then
        stream.expects = "messages"
        if length < CONT_MIN or length > CONT_MAX or tvb(offset + 4, 1):uint() ~= 0x03 then
            stream.number = nil
            return { what = "bad", name = "CONT expected" }
        end
        local number, record = tvb(offset + 5, 7):uint64(), { what = "cont" }
        if stream.number and number > stream.number then
            record.gap = number - stream.number
        end
        record.ping = stream.number ~= nil and number == stream.number
        stream.number = number
        return record
    end
    local record = { what = "message", number = stream.number }
    stream.number = stream.number and stream.number + 1
    return record
end

-- What a message from the host is, within a session.
local function classify_down(stream, tvb, offset, length)
    if length == 0 then
        return { what = "end" }
    elseif length < ACK_FIXED then
        return { what = "bad", name = "Short frame" }
    end
    local kind = tvb(offset + 4, 1):uint()
    local number = tvb(offset + 5, 7):uint64()
    if kind == 0x01 and length >= WELCOME_FIXED then
        stream.acked = number
        -- An eager sender has sent its first CONT already.
        stream.number = stream.number or tvb(offset + 12, 8):uint64()
        return { what = "welcome" }
    elseif kind == 0x02 then
        local record = { what = "ack" }
        if stream.acked and number >= stream.acked then
            record.new = number - stream.acked
        end
        stream.acked = number
        return record
    elseif kind == 0x0f and length >= CLOSING_FIXED then
        return { what = "closing" }
    elseif kind == 0x01 or kind == 0x0f then
        return { what = "bad", name = "Short " .. TYPES[kind] }
    end
    return { what = "unknown" }
end

-- What the message at this offset is. It is decided when the capture is read, in order, and remembered for later looks.
local function classify(tvb, pinfo, offset, length)
    local key = table.concat({ pinfo.number, tvb:offset(), tvb:len(), offset }, ":")
    if pinfo.visited then
        return records[key] or { what = length == 0 and "end" or "message" }
    end
    local stream = stream_of(pinfo)
    local from = endpoint(pinfo.src, pinfo.src_port)
    local begins = is_hello(tvb, offset, length)
    if begins and not stream.is_numbered then
        -- Maybe another connection between the same ports.
        streams[stream.key] = nil
        stream = stream_of(pinfo)
    end
    if begins and not stream.up and not stream.seen[from] then
        stream.up, stream.expects = from, "hello"
    elseif not stream.up and prefs.assume_session then
        local is_down = is_daemon_port(pinfo.src_port)
        stream.up = is_down and endpoint(pinfo.dst, pinfo.dst_port) or from
        stream.expects = "messages"
    end
    stream.seen[from] = true
    if not stream.up then
        return { what = length == 0 and "end" or "message" }
    end
    local decide = stream.up == from and classify_up or classify_down
    local record = decide(stream, tvb, offset, length)
    records[key] = record
    return record
end

-- The tree ---------------------------------------------------------------------------------------------------------

-- Adds fields, each with its length, and returns the offset after them.
local function add(tree, tvb, offset, name, length, ...)
    tree:add(f[name], tvb(offset, length))
    if ... then
        return add(tree, tvb, offset + length, ...)
    end
    return offset + length
end

local function add_time(tree, tvb, offset, name)
    local time = tvb(offset, 8):uint64()
    local billion = UInt64.new(1000000000)
    local seconds, nanoseconds = (time / billion):tonumber(), (time % billion):tonumber()
    -- Later than any time that Wireshark can show.
    if seconds <= 9223372036 then
        tree:add(f[name], tvb(offset, 8), NSTime.new(seconds, nanoseconds))
    end
end

local function add_extensions(tree, tvb, offset, finish)
    while offset < finish do
        local length = finish - offset >= 2 and tvb(offset + 1, 1):uint()
        if not length or length > finish - offset - 2 then
            tree:add(f.rest, tvb(offset, finish - offset)):add_proto_expert_info(malformed)
            return
        end
        local item = tree:add(f.extension, tvb(offset, 2 + length))
        add(item, tvb, offset, "extension_type", 1)
        add(item, tvb, offset + 1, "extension_length", 1)
        if length > 0 then
            add(item, tvb, offset + 2, "extension_value", length)
        end
        offset = offset + 2 + length
    end
end

-- The rest of a frame, which later versions of the protocol may use.
local function add_rest(tree, tvb, offset, finish)
    if offset < finish then
        add(tree, tvb, offset, "rest", finish - offset)
    end
end

-- Each function shows a message whose payload is from `offset` to `finish`, and returns its summary.
local show = {}

function show.hello(tree, tvb, offset, finish)
    local item = tree:add(f.hello, tvb(offset, finish - offset))
    add(item, tvb, offset, "hello_magic", 8, "hello_version", 1)
    if tvb(offset + 8, 1):uint() ~= VERSION then
        add_rest(item, tvb, offset + 9, finish)
        return "HELLO of another version"
    end
    local flags = item:add(f.hello_flags, tvb(offset + 9, 1))
    add(flags, tvb, offset + 9, "hello_flags_time", 1)
    add(flags, tvb, offset + 9, "hello_flags_unknown", 1)
    local at = add(item, tvb, offset + 10, "hello_device_length", 1, "hello_heartbeat", 1, "hello_room", 4,
        "hello_session", 8, "hello_first", 8, "hello_held", 4, "hello_lost", 4, "hello_uptime", 8)
    local length = tvb(offset + 10, 1):uint()
    if length < 1 or length > 64 or length > finish - at then
        item:add(f.rest, tvb(at, finish - at)):add_proto_expert_info(malformed)
        return "malformed HELLO"
    end
    local device = tvb(at, length)
    add_extensions(item, tvb, add(item, tvb, at, "hello_device", length), finish)
    return string.format("HELLO %s first=%s held=%s", device:string(), tvb(offset + 24, 8):uint64(), tvb(offset + 32, 4):uint())
end

function show.cont(tree, tvb, offset, finish, record)
    local item = tree:add(f.cont, tvb(offset, finish - offset))
    local at = add(item, tvb, offset, "type", 1, "cont_number", 7, "cont_session", 8, "cont_uptime", 8)
    item:add(f.cont_ping, tvb(offset + 1, 7), record.ping):set_generated()
    if record.gap then
        local missing = item:add(f.cont_gap, tvb(offset + 1, 7), record.gap):set_generated()
        missing:add_proto_expert_info(gap)
    end
    add_extensions(item, tvb, at, finish)
    return "CONT " .. tostring(tvb(offset + 1, 7):uint64())
end

function show.welcome(tree, tvb, offset, finish)
    local item = tree:add(f.welcome, tvb(offset, finish - offset))
    local at = add(item, tvb, offset, "type", 1, "welcome_number", 7, "welcome_resume", 8, "welcome_session", 8)
    add_time(item, tvb, at, "welcome_time")
    add(item, tvb, at + 8, "welcome_block_max", 4, "welcome_heartbeat", 2)
    local flags = item:add(f.welcome_flags, tvb(offset + 38, 2))
    add(flags, tvb, offset + 38, "welcome_flags_synced", 2)
    add(flags, tvb, offset + 38, "welcome_flags_new", 2)
    add(item, tvb, offset + 40, "welcome_check", 4)
    add_rest(item, tvb, offset + WELCOME_FIXED, finish)
    return "WELCOME resume=" .. tostring(tvb(offset + 8, 8):uint64())
end

function show.ack(tree, tvb, offset, finish, record)
    local item = tree:add(f.ack, tvb(offset, finish - offset))
    local at = add(item, tvb, offset, "type", 1, "ack_number", 7)
    if record.new then
        item:add(f.ack_new, tvb(offset + 1, 7), record.new):set_generated()
    end
    if finish - offset >= ACK_TIMED then
        add_time(item, tvb, at, "ack_time")
        at = at + 8
    end
    add_rest(item, tvb, at, finish)
    return "ACK " .. tostring(tvb(offset + 1, 7):uint64())
end

function show.closing(tree, tvb, offset, finish)
    local item = tree:add(f.closing, tvb(offset, finish - offset))
    add(item, tvb, offset, "type", 1, "closing_number", 7)
    local code = tvb(offset + 8, 1):uint()
    item:add(f.closing_code, tvb(offset + 8, 1)):add_proto_expert_info(closed)
    add(item, tvb, offset + 10, "closing_retry", 2)
    if finish > offset + CLOSING_FIXED then
        item:add(f.closing_text, tvb(offset + CLOSING_FIXED, finish - offset - CLOSING_FIXED))
    end
    return "CLOSING " .. (CODES[code] or tostring(code))
end

function show.unknown(tree, tvb, offset, finish)
    add(tree, tvb, offset, "type", 1)
    tree:add(f.rest, tvb(offset + 1, finish - offset - 1)):add_proto_expert_info(unknown)
    return string.format("unknown frame %#x", tvb(offset, 1):uint())
end

function show.bad(tree, tvb, offset, finish, record)
    tree:add(f.rest, tvb(offset, finish - offset)):add_proto_expert_info(malformed, record.name)
    return record.name
end

show["end"] = function(tree, tvb, offset)
    tree:add(f["end"], tvb(offset - 4, 4))
    return "END"
end

function show.message(tree, tvb, offset, finish, record, pinfo)
    local payload = tvb(offset, finish - offset)
    local item = tree:add(f.message, payload)
    if record.number then
        item:add(f.message_number, payload, record.number):set_generated()
    end
    if prefs.payload == AS_TEXT then
        item:add_packet_field(f.text, payload, ENC_UTF_8)
    else
        item:add(f.payload, payload)
    end
    if DECODERS[prefs.payload] then
        Dissector.get(DECODERS[prefs.payload]):call(payload:tvb(), pinfo, item)
    end
end

-- The stream -------------------------------------------------------------------------------------------------------

-- The frame and the offset in it of the last text in the column `Info`: TCP may pass one frame in several parts.
local last_frame, last_offset = 0, 0

local function set_info(tvb, pinfo, text)
    local is_next = pinfo.number == last_frame and tvb:offset() > last_offset
    last_frame, last_offset = pinfo.number, tvb:offset()
    pinfo.cols.info = (is_next and ", " or "") .. text
end

-- Ends a run of messages, which is one entry of a summary.
local function summarize(summaries, messages)
    if messages > 0 then
        summaries[#summaries + 1] = messages == 1 and "1 message" or messages .. " messages"
    end
    return 0
end

-- Shows the messages of a segment, and asks TCP for the rest of the last one.
local function dissect(tvb, pinfo, tree)
    local total = tvb:len()
    -- A capture of the beginnings of packets has less than the network.
    local is_whole = tvb:reported_len() <= total
    local summaries, messages, offset = {}, 0, 0
    while offset < total do
        local left = total - offset
        local length = left >= 4 and tvb(offset, 4):uint()
        if length and length > prefs.max_length then
            local item = tree:add(blocksd, tvb(offset, left), "blocksd, not framed")
            item:add(f.length, tvb(offset, 4)):add_proto_expert_info(unframed)
            add_rest(item, tvb, offset + 4, total)
            summaries[#summaries + 1] = "not framed"
            offset = total
            break
        end
        if not length or left - 4 < length then
            if is_whole and pinfo.can_desegment > 0 then
                pinfo.desegment_offset = offset
                pinfo.desegment_len = length and length - (left - 4) or DESEGMENT_ONE_MORE_SEGMENT
            else
                tree:add(blocksd, tvb(offset, left), "blocksd, part of a message"):add_proto_expert_info(cut)
                summaries[#summaries + 1] = "part of a message"
            end
            break
        end
        local record = classify(tvb, pinfo, offset, length)
        local item = tree:add(blocksd, tvb(offset, 4 + length), "blocksd")
        item:add(f.length, tvb(offset, 4))
        local summary = show[record.what](item, tvb, offset + 4, offset + 4 + length, record, pinfo)
        if summary then
            messages = summarize(summaries, messages)
            summaries[#summaries + 1] = summary
        else
            messages = messages + 1
        end
        item:append_text(", " .. (summary or "message of " .. length .. " bytes"))
        offset = offset + 4 + length
    end
    summarize(summaries, messages)
    pinfo.cols.protocol = "blocksd"
    if #summaries > 0 then
        set_info(tvb, pinfo, table.concat(summaries, ", "))
    end
    return total
end

function blocksd.dissector(tvb, pinfo, tree)
    local stream = stream_of(pinfo)
    if stream.is_tls == nil and not pinfo.visited then
        -- A handshake record of TLS; as a length it is 369 MB.
        stream.is_tls = tvb:len() >= 2 and tvb(0, 2):uint() == 0x1603
    end
    if stream.is_tls then
        return Dissector.get("tls"):call(tvb, pinfo, tree)
    end
    return dissect(tvb, pinfo, tree)
end

-- A session is recognised on any port by its HELLO.
blocksd:register_heuristic("tcp", function(tvb, pinfo, tree)
    if tvb:len() < 12 or not is_hello(tvb, 0, tvb(0, 4):uint()) then
        return false
    end
    pinfo.conversation = blocksd
    dissect(tvb, pinfo, tree)
    return true
end)

local by_port, registered = DissectorTable.get("tcp.port"), nil
local function register_ports()
    if registered then
        by_port:remove(registered, blocksd)
    end
    registered = prefs.ports
    by_port:add(registered, blocksd)
end
blocksd.prefs_changed = register_ports
register_ports()
