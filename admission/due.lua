-- The sellers whose stock in Redis must be checked, and when. KEYS[1]: zset seller -> ms; KEYS[2]: string, the server
-- whose data this worker has seen. ARGV[1] is the command, ARGV[2] its arguments as MessagePack.
local call = redis.call
local clock = call('TIME')
local now_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
-- A worker that has not called for this long is told again that the data is new, and checks all sellers.
local SEEN_SECONDS = 3600

local commands = {}

-- {{seller, ms from now}, ...}. The earliest time of a seller counts.
function commands.note(asked)
    for _, each in ipairs(asked) do
        call('ZADD', KEYS[1], 'LT', string.format('%.0f', now_ms + each[2]), each[1])
    end
    return {}
end

-- {limit} -> {whether the server's data is new to this worker, {seller, ...}}. Each seller goes to one worker.
function commands.take(asked)
    local server = string.match(call('INFO', 'server'), 'run_id:(%x+)')
    local is_new = call('GET', KEYS[2]) ~= server
    call('SET', KEYS[2], server, 'EX', SEEN_SECONDS)
    local due = call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms), 'LIMIT', 0, asked[1])
    if due[1] then call('ZREM', KEYS[1], unpack(due)) end
    return {is_new, due}
end

return cmsgpack.pack(commands[ARGV[1]](cmsgpack.unpack(ARGV[2])))
