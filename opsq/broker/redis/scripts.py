"""The Lua scripts: everything that must happen in one step, by the server's clock.

A message that was popped is registered before the script ends, so there is no moment at which only
a process knows of it. A first write that the server refuses (read-only, disk full) ends a script
before anything happened; memory that is full does not, since a pop comes first.
"""

from __future__ import annotations

import hashlib

from opsq.broker.redis.faults import of_reply
from opsq.broker.redis.wire import ReplyError, Wire, Word

# A batch ends when it is about this big; the first message tells how big the next ones may be.
BATCH_BYTES = 4 * 1024 * 1024

_NOW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
"""

# Foreign text is looked at without being parsed: cjson would turn empty lists into objects and
# long numbers into short ones. One occurrence of the key in a JSON text is the key itself, for inside
# a string its quotes would be escaped. Anything else is parsed, and what has no tag gets one and an
# envelope around it, byte for byte, so that a reader can be shown it.
_TAG_OF = r"""
local function tag_of(text)
    local from, to = string.find(text, '"delivery_tag"', 1, true)
    if from and not string.find(text, '"delivery_tag"', to, true) then
        local tag = string.match(text, '^%s*:%s*"([^"\\]+)"', to + 1)
        if tag then return tag end
    end
    local ok, message = pcall(cjson.decode, text)
    local properties = ok and type(message) == 'table' and message.properties
    local tag = type(properties) == 'table' and properties.delivery_tag
    if type(tag) == 'string' and tag ~= '' then return tag end
    return nil
end
local function wrapped(text, tag, queue)
    local body = string.gsub(text, '[%c\128-\255"\\]', function(c) return string.format('\\u%04x', string.byte(c)) end)
    return '{"body": "' .. body .. '", "content-type": "application/octet-stream", "content-encoding": "latin-1", '
        .. '"headers": {}, "properties": {"delivery_tag": "' .. tag .. '", "priority": 0, "opsq_wrapped": true, '
        .. '"delivery_info": {"exchange": "", "routing_key": ' .. queue .. '}}}'
end
"""

# KEYS: unacked, unacked_index, alive_until, lease, then every list in the order to empty them.
# ARGV: consumer, JSON list of the tags that are done ('' for none), room, bytes of a batch, then for
# every list its queue's name as JSON.
# Answer: how many tags were not ours, number taken of each list, bytes of each message, messages as a JSON list.
EXCHANGE = (
    _TAG_OF
    + """
local unacked, index, lease, consumer = KEYS[1], KEYS[2], KEYS[4], ARGV[1]
if not redis.call('ZSCORE', KEYS[3], consumer) then return redis.error_reply('OPSQLOST') end
"""
    + _NOW
    + """
local refused = 0
if ARGV[2] ~= '' then
    local done, mine = cjson.decode(ARGV[2]), {}
    for i, held in ipairs(redis.call('ZMSCORE', lease, unpack(done))) do
        if held then mine[#mine + 1] = done[i] end
    end
    refused = #done - #mine
    if #mine > 0 then
        redis.call('ZREM', lease, unpack(mine))
        redis.call('ZREM', index, unpack(mine))
        redis.call('HDEL', unacked, unpack(mine))
    end
end
local counts, sizes, messages = {}, {}, {}
local room, bytes, limit, biggest = tonumber(ARGV[3]), 0, tonumber(ARGV[4]), 0
for list = 5, #KEYS do
    local queue, count = ARGV[list], 0
    while room > 0 and bytes < limit do
        local share = biggest == 0 and 1 or math.max(1, math.min(room, 256, math.floor((limit - bytes) / biggest)))
        local popped = redis.call('RPOP', KEYS[list], share)
        if not popped then break end
        local entries, scores, holds = {}, {}, {}
        for i, text in ipairs(popped) do
            local tag = tag_of(text)
            if not tag then
                tag = 'opsq-' .. redis.sha1hex(text .. time[1] .. time[2] .. #messages)
                text = wrapped(text, tag, queue)
            end
            local order = #messages + 1
            messages[order], sizes[order] = text, #text
            bytes = bytes + #text
            if #text > biggest then biggest = #text end
            local at = 2 * i - 1
            entries[at], entries[at + 1] = tag, '[' .. text .. ', "", ' .. queue .. ']'
            scores[at], scores[at + 1] = string.format('%.6f', now), tag
            holds[at], holds[at + 1] = string.format('%.6f', now + order / 1000000), tag
        end
        redis.call('HSET', unacked, unpack(entries))
        redis.call('ZADD', index, unpack(scores))
        redis.call('ZADD', lease, unpack(holds))
        count, room = count + #popped, room - #popped
        if #popped < share then break end
    end
    counts[list - 4] = count
end
local more = 1
if room > 0 and bytes < limit and #KEYS > 4 then
    -- Reading the keys is what makes the server tell us when one of them changes.
    more = redis.call('EXISTS', unpack(KEYS, 5))
end
return {refused, counts, table.concat(sizes, ','), '[' .. table.concat(messages, ',') .. ']', more}
"""
)

# KEYS: every list. ARGV: room, bytes. Answer as above, with nothing registered.
DRAIN = """
local counts, sizes, messages = {}, {}, {}
local room, bytes, limit = tonumber(ARGV[1]), 0, tonumber(ARGV[2])
for list = 1, #KEYS do
    local count = 0
    while room > 0 and bytes < limit do
        local popped = redis.call('RPOP', KEYS[list], math.min(room, 16))
        if not popped then break end
        for _, text in ipairs(popped) do
            messages[#messages + 1], sizes[#sizes + 1] = text, #text
            bytes = bytes + #text
        end
        count, room = count + #popped, room - #popped
    end
    counts[list] = count
end
local more = 1
if room > 0 and bytes < limit and #KEYS > 0 then more = redis.call('EXISTS', unpack(KEYS)) end
return {0, counts, table.concat(sizes, ','), '[' .. table.concat(messages, ',') .. ']', more}
"""

# KEYS: unacked_index, alive_until, lease, owners. ARGV: consumer, seconds, its record ('' to renew).
# Sets every held tag's time to now, so that no sweeper takes it for abandoned. A first write that
# needs no memory lets the others through when memory is full.
RENEW = (
    _NOW
    + """
redis.call('ZREM', KEYS[1], '')
if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[4], ARGV[1], ARGV[3])
elseif not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
    return redis.error_reply('OPSQLOST')
end
redis.call('ZADD', KEYS[2], string.format('%.6f', now + tonumber(ARGV[2])), ARGV[1])
local held = redis.call('ZRANGE', KEYS[3], 0, -1)
for first = 1, #held, 1000 do
    local scores = {'XX'}
    for i = first, math.min(first + 999, #held) do
        scores[#scores + 1], scores[#scores + 2] = string.format('%.6f', now), held[i]
    end
    redis.call('ZADD', KEYS[1], unpack(scores))
end
return #held
"""
)

# KEYS: alive_until, owners, lease. ARGV: consumer, 'gone' (its death is certain) or 'late' (only if its
# lease has ended). From then on it can neither take nor settle.
CONDEMN = (
    _NOW
    + """
local until_at = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[2] == 'late' and until_at and tonumber(until_at) >= now then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
"""
)

# KEYS: unacked, unacked_index, lease. ARGV: 'lease' to take what that lease holds, or the visibility
# time-out in seconds to take what is older; then for each message its tag, a JSON list of the lists it
# goes back to the head of, and its new text. Answer: how many went back.
RESTORE = (
    _NOW
    + """
local restored = 0
for i = 2, #ARGV, 3 do
    local tag, allowed = ARGV[i], nil
    if ARGV[1] == 'lease' then
        allowed = redis.call('ZREM', KEYS[3], tag) == 1
    else
        local since = redis.call('ZSCORE', KEYS[2], tag)
        allowed = since and tonumber(since) < now - tonumber(ARGV[1])
    end
    if allowed then
        redis.call('ZREM', KEYS[2], tag)
        if redis.call('HDEL', KEYS[1], tag) == 1 then
            for _, list in ipairs(cjson.decode(ARGV[i + 1])) do redis.call('RPUSH', list, ARGV[i + 2]) end
            restored = restored + 1
        end
    end
end
return restored
"""
)


class Scripts:
    """Runs the scripts on one wire by their digests; sends the text when the server does not know it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._digests: dict[str, bytes] = {}

    def run(self, script: str, keys: list[str], *arguments: Word) -> object:
        """Run and return the answer. Raises: BrokerUnavailable of the kind the server's refusal calls for."""
        digest = self._digests.get(script)
        if digest is None:
            digest = self._digests[script] = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest().encode()
        command: list[Word] = ["EVALSHA", digest, len(keys), *keys, *arguments]
        answer = self._wire.ask(*command)
        if isinstance(answer, ReplyError) and answer.code == "NOSCRIPT":
            self._wire.call("SCRIPT", "LOAD", script)
            answer = self._wire.ask(*command)
        if isinstance(answer, ReplyError):
            raise of_reply(answer, self._wire.name) from answer
        return answer
