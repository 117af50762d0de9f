-- Sellers whose stock in Redis is to be looked at, and from when on. KEYS[1]: zset seller -> ms; KEYS[2]: string, whether
-- this worker has seen this server's data. ARGV[1] names the command, ARGV[2] holds its arguments as MessagePack.
local call = redis.call
local clock = call('TIME')
local now_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
-- A worker that has not asked for so long looks at everybody again.
local SEEN_SECONDS = 3600

local commands = {}

-- {{seller, ms from now}, ...}: the earliest time counts.
function commands.note(asked)
    for _, each in ipairs(asked) do
        call('ZADD', KEYS[1], 'LT', string.format('%.0f', now_ms + each[2]), each[1])
    end
    return {}
end

-- {how many} -> {whether the server's data is new to this worker, {seller, ...}}. Each seller is one worker's.
function commands.take(asked)
    local server = string.match(call('INFO', 'server'), 'run_id:(%x+)')
    local is_new = call('GET', KEYS[2]) ~= server
    call('SET', KEYS[2], server, 'EX', SEEN_SECONDS)
    local due = call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms), 'LIMIT', 0, asked[1])
    if due[1] then call('ZREM', KEYS[1], unpack(due)) end
    return {is_new, due}
end

return cmsgpack.pack(commands[ARGV[1]](cmsgpack.unpack(ARGV[2])))
