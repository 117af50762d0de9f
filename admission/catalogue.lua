-- A seller's products as they are read. KEYS[1] is the seller's, with its hash tag; ARGV[1] is the command, ARGV[2] its
-- arguments as MessagePack; answers are MessagePack too.
--
--   product:<id>   hash    value: what is shown, empty if there is no such product
--                          at: when it was read from Postgres; until: until when it is fresh; seconds
--                          server: the run id of the server that it was stored by
--   filler:<id>    string  the token of the one who reads it from Postgres
--
-- A copy that is no longer fresh stays: it is shown while somebody reads a new one, and while Postgres is unavailable.
-- Nor is one that another server has stored: a restart or a failover may have lost the mark that it is old.
-- Whoever marks a copy as old also takes the filler's token away: what that one read may be older than the mark.
local P, F = KEYS[1] .. ':product:', KEYS[1] .. ':filler:'
local call = redis.call
local now = tonumber(call('TIME')[1])
local server = string.match(call('INFO', 'server'), 'run_id:(%x+)')

-- A filler that has not filled in this time is taken for dead.
local FILL_MS = 1000
local FRESH, FILL, FILLING = 0, 1, 2

local commands = {}

-- {token, {id, ...}} -> per id {FRESH, FILL or FILLING, seconds since it was read, seconds that it stays fresh, value};
-- without the last three where there is no copy. FILL: the caller is to read it from Postgres, and nobody else does.
function commands.read(asked)
    local answers = {}
    for i, id in ipairs(asked[2]) do
        local copy = call('HMGET', P .. id, 'value', 'at', 'until', 'server')
        local answer = {FRESH}
        if copy[1] then
            local stays = copy[3] - now
            if copy[4] ~= server then stays = math.min(stays, 0) end
            answer[2], answer[3], answer[4] = math.max(0, now - copy[2]), stays, copy[1]
        end
        if not copy[1] or answer[3] <= 0 then
            answer[1] = call('SET', F .. id, asked[1], 'NX', 'PX', FILL_MS) and FILL or FILLING
        end
        answers[i] = answer
    end
    return answers
end

-- {token, id, value, seconds that it is fresh, seconds that it stays}
function commands.fill(asked)
    local token, id, value, fresh, stays = unpack(asked)
    if call('GET', F .. id) ~= token then return {false} end
    call('HSET', P .. id, 'value', value, 'at', now, 'until', now + fresh, 'server', server)
    call('EXPIRE', P .. id, stays)
    call('DEL', F .. id)
    return {true}
end

-- {id, ...}: they were changed in Postgres.
function commands.mark(ids)
    for _, id in ipairs(ids) do
        call('DEL', F .. id)
        if call('EXISTS', P .. id) == 1 then call('HSET', P .. id, 'until', now) end
    end
    return {}
end

return cmsgpack.pack(commands[ARGV[1]](cmsgpack.unpack(ARGV[2])))
