-- Redis' copy of one seller's stock. Every key of a seller carries the same hash tag, KEYS[1], so that a call stays in
-- one slot. ARGV[1] is the command, ARGV[2] its arguments as MessagePack; answers are MessagePack too.
--
--   level:<sku>      hash    free: on hand minus reserved, as Postgres had it at `version`
--                            held: pieces of admitted, undecided orders
--                            on_hand, shards
--                            top, topfree: the newest version received, and what was free at it
--                            may, mayat: an upper bound of the pieces that can still be obtained (free, or reserved by
--                            orders whose payment is not known), as Postgres had it at version `mayat`
--   left:<i>:<sku>   string  if the SKU has several shards: pieces available in shard i; their sum is free - held
--   ahead:<sku>      hash    version -> pieces, of changes that arrived before the changes that precede them
--   holds            hash    order -> {flag, sku, pieces, ...}; flag: '' held; G granted from the waitlist and not yet
--                            fetched; P placed, its change of stock still to arrive
--   until            zset    order -> when its hold expires, ms
--   line:<sku>       zset    the waitlist: order -> its number in the order of arrival
--   waiters          hash    order -> {number, the SKU whose waitlist it is on, sku, pieces, ...}
--   places           zset    order -> when its place on the waitlist expires, ms
--   lines            set     SKUs that have a waitlist
--   queued           hash    SKU -> pieces wanted by the orders on its waitlist
--   done:<order>     string  decided; expires after a day
--   rate:...         string  when the bucket is full again, microseconds
--   complete         string  the run id of the server to which Postgres was last copied in full
local S = KEYS[1] .. ':'
local call = redis.call
local clock = call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = math.floor(now_us / 1000)

local DONE_SECONDS = 86400
local SWEEP_MAX = 200
local WAITLIST_MAX = 20000
-- Orders of a waitlist that are read in one step.
local WAITLIST_STEP = 500
-- How long after its client's time limit a gateway may still fetch a grant.
local FETCH_MS = 2000
local BURST, TOKEN_US = 5, 200000
local NOT_HELD, HELD, SHORT, LIMITED, WAITING = 0, 1, 2, 3, 4

local function int(number) return string.format('%.0f', number) end

local run_id
local function server()
    run_id = run_id or string.match(call('INFO', 'server'), 'run_id:(%x+)')
    return run_id
end

local is_complete
-- Whether the copy is complete. A restart, a failover and FLUSHALL make it incomplete: the data of a server that came
-- back may be older than what it has admitted.
local function complete()
    if is_complete == nil then
        local made_for = call('GET', S .. 'complete')
        is_complete = made_for and made_for == server()
    end
    return is_complete
end

local function home_of(id, shards)
    local hash = 0
    for i = math.max(1, #id - 5), #id do hash = (hash * 31 + string.byte(id, i)) % 1000003 end
    return hash % shards
end

local function left_key(sku, shard) return S .. 'left:' .. shard .. ':' .. sku end

-- Whether `pieces` are available (nil: the SKU is unknown), how many are, and the number of shards.
local function look(sku, pieces, id)
    local level = call('HMGET', S .. 'level:' .. sku, 'free', 'held', 'shards')
    if not level[1] then return nil end
    local shards = tonumber(level[3] or 1)
    if shards == 1 then
        local available = tonumber(level[1]) - tonumber(level[2] or 0)
        return available >= pieces, available, 1
    end
    local home = home_of(id, shards)
    local available = 0
    for k = 0, shards - 1 do
        local left = call('GET', left_key(sku, (home + k) % shards))
        if not left then return nil end
        available = available + tonumber(left)
        if k == 0 and available >= pieces then return true, available, shards end
    end
    return available >= pieces, available, shards
end

local function take(sku, pieces, id, shards)
    call('HINCRBY', S .. 'level:' .. sku, 'held', int(pieces))
    if shards == 1 then return end
    local home = home_of(id, shards)
    for k = 0, shards - 1 do
        local key = left_key(sku, (home + k) % shards)
        local some = math.min(pieces, math.max(0, tonumber(call('GET', key) or 0)))
        if some > 0 then call('DECRBY', key, int(some)) end
        pieces = pieces - some
        if pieces == 0 then return end
    end
end

local function give(sku, pieces, id)
    local level = call('HMGET', S .. 'level:' .. sku, 'held', 'shards')
    if not level[1] then return end
    pieces = math.min(pieces, tonumber(level[1]))
    if pieces <= 0 then return end
    call('HINCRBY', S .. 'level:' .. sku, 'held', int(-pieces))
    local shards = tonumber(level[2] or 1)
    if shards > 1 then call('INCRBY', left_key(sku, home_of(id, shards)), int(pieces)) end
end

local function spread(sku, shards, available)
    for i = 0, shards - 1 do
        local part = math.floor(available / shards)
        if i < available % shards then part = part + 1 end
        call('SET', left_key(sku, i), int(part))
    end
end

-- Distribute a change of the free pieces over the shards.
local function shift(sku, shards, by)
    if shards == 1 or by == 0 then return end
    local available = by
    for i = 0, shards - 1 do available = available + tonumber(call('GET', left_key(sku, i)) or 0) end
    spread(sku, shards, available)
end

local function hold(id, pieces, flag, expires_ms)
    local record = {flag}
    for _, part in ipairs(pieces) do record[#record + 1] = part end
    call('HSET', S .. 'holds', id, cmsgpack.pack(record))
    call('ZADD', S .. 'until', int(expires_ms), id)
end

local function wanted_of(pieces, sku)
    for j = 1, #pieces, 2 do
        if pieces[j] == sku then return pieces[j + 1] end
    end
    return 0
end

local function queue(sku, by)
    if call('HINCRBY', S .. 'queued', sku, int(by)) <= 0 then call('HDEL', S .. 'queued', sku) end
end

-- The most pieces that orders on the waitlist, present and future, can obtain; nil: the SKU is unknown.
local function obtainable(sku)
    local level = call('HMGET', S .. 'level:' .. sku, 'on_hand', 'may')
    if not level[1] then return nil end
    return math.min(tonumber(level[1]), tonumber(level[2] or level[1]))
end

local function leave_waitlist(id)
    local packed = call('HGET', S .. 'waiters', id)
    if not packed then
        call('ZREM', S .. 'places', id)
        return nil
    end
    local waiter = cmsgpack.unpack(packed)
    if call('ZREM', S .. 'line:' .. waiter[2], id) == 1 then
        queue(waiter[2], -wanted_of({unpack(waiter, 3)}, waiter[2]))
    end
    call('HDEL', S .. 'waiters', id)
    call('ZREM', S .. 'places', id)
    return waiter[2]
end

local function join_waitlist(id, number, sku, pieces, until_ms)
    local waiter = {number, sku}
    for _, part in ipairs(pieces) do waiter[#waiter + 1] = part end
    call('HSET', S .. 'waiters', id, cmsgpack.pack(waiter))
    if call('ZADD', S .. 'line:' .. sku, int(number), id) == 1 then queue(sku, wanted_of(pieces, sku)) end
    call('ZADD', S .. 'places', int(until_ms), id)
    call('SADD', S .. 'lines', sku)
end

-- What is short of an order, whether a SKU is unknown, the shards of each SKU, and whether the order is the head of a
-- waitlist. Orders that joined a waitlist earlier come first: an order without a number, or with a higher one, finds 0.
local function shortage(id, pieces, number)
    local short, unknown, shards, is_next = {}, false, {}, false
    for j = 1, #pieces, 2 do
        local sku, wanted = pieces[j], pieces[j + 1]
        local enough, available, parts = look(sku, wanted, id)
        if enough == nil then
            unknown = true
        else
            shards[sku] = parts
            local head = call('ZRANGE', S .. 'line:' .. sku, 0, 0, 'WITHSCORES')
            is_next = is_next or head[1] == id
            if head[1] and head[1] ~= id and (not number or tonumber(head[2]) < number) then
                short[#short + 1] = {sku, wanted, 0}
            elseif not enough then
                short[#short + 1] = {sku, wanted, math.max(0, available)}
            end
        end
    end
    return short, unknown, shards, is_next
end

local function take_all(id, pieces, shards)
    for j = 1, #pieces, 2 do take(pieces[j], pieces[j + 1], id, shards[pieces[j]]) end
end

-- Grant to the head of the waitlist while its pieces are available. A head that lacks another SKU moves to that SKU's
-- waitlist with its number, so that it does not withhold these pieces from the orders behind it.
local function serve(sku)
    if not complete() then return end
    local waitlist = S .. 'line:' .. sku
    while true do
        local id = call('ZRANGE', waitlist, 0, 0)[1]
        if not id then return end
        local packed = call('HGET', S .. 'waiters', id)
        if not packed then
            call('ZREM', waitlist, id)
        else
            local waiter = cmsgpack.unpack(packed)
            local pieces = {unpack(waiter, 3)}
            local short, unknown, shards = shortage(id, pieces, waiter[1])
            local elsewhere
            for _, each in ipairs(short) do
                if each[1] == sku then return end
                elsewhere = elsewhere or each[1]
            end
            if unknown then return end
            local until_ms = tonumber(call('ZSCORE', S .. 'places', id) or now_ms)
            leave_waitlist(id)
            if elsewhere then
                join_waitlist(id, waiter[1], elsewhere, pieces, until_ms)
            else
                take_all(id, pieces, shards)
                hold(id, pieces, 'G', until_ms + FETCH_MS)
            end
        end
    end
end

local function serve_each(pieces)
    for j = 1, #pieces, 2 do serve(pieces[j]) end
end

-- End a hold and make its pieces available again. Returns them; nil if there was no hold.
local function end_hold(id)
    local packed = call('HGET', S .. 'holds', id)
    call('ZREM', S .. 'until', id)
    if not packed then return nil end
    call('HDEL', S .. 'holds', id)
    local pieces = {unpack(cmsgpack.unpack(packed), 2)}
    for j = 1, #pieces, 2 do give(pieces[j], pieces[j + 1], id) end
    return pieces
end

local function decided(id)
    call('SET', S .. 'done:' .. id, 1, 'EX', DONE_SECONDS)
    local sku = leave_waitlist(id)
    if sku then serve(sku) end
end

-- End what has expired. Every call does this, so that it does not depend on a worker.
local function sweep()
    for _, id in ipairs(call('ZRANGEBYSCORE', S .. 'until', '-inf', int(now_ms), 'LIMIT', 0, SWEEP_MAX)) do
        serve_each(end_hold(id) or {})
    end
    for _, id in ipairs(call('ZRANGEBYSCORE', S .. 'places', '-inf', int(now_ms), 'LIMIT', 0, SWEEP_MAX)) do
        local sku = leave_waitlist(id)
        if sku then serve(sku) end
    end
end

-- The answer to an order that holds. A grant becomes an ordinary hold, with the full hold time.
local function fetched(id, packed, hold_ms)
    local record = cmsgpack.unpack(packed)
    if record[1] == 'G' then
        record[1] = ''
        call('HSET', S .. 'holds', id, cmsgpack.pack(record))
        call('ZADD', S .. 'until', int(now_ms + hold_ms), id)
    end
    return HELD
end

-- Take a token from the bucket of each SKU, or none and return the microseconds until all are available. A bucket is
-- stored as the time at which it will be full again: it holds BURST tokens, and gains one every TOKEN_US.
local function spend(customer, pieces)
    local full, wait = {}, 0
    for j = 1, #pieces, 2 do
        local key = S .. 'rate:' .. #pieces[j] .. ':' .. pieces[j] .. ':' .. customer
        local at = math.max(now_us, tonumber(call('GET', key) or 0))
        -- Emptier than possible: the clock was set back. Ignore it, or the customer would wait for as long.
        if at > now_us + BURST * TOKEN_US then at = now_us end
        wait = math.max(wait, at - (BURST - 1) * TOKEN_US - now_us)
        full[key] = at + TOKEN_US
    end
    if wait > 0 then return wait end
    for key, at in pairs(full) do call('SET', key, int(at), 'PX', int(math.ceil((at - now_us) / 1000))) end
    return 0
end

local commands = {}

-- {hold ms, {{order, customer, {sku, pieces, ...}}, ...}} -> one answer per order
function commands.admit(asked)
    local answers = {}
    for i, order in ipairs(asked[2]) do
        local id, customer, pieces = order[1], order[2], order[3]
        local packed = call('HGET', S .. 'holds', id)
        if packed then
            answers[i] = fetched(id, packed, asked[1])
        elseif call('EXISTS', S .. 'done:' .. id) == 1 then
            answers[i] = NOT_HELD
        else
            local wait = spend(customer, pieces)
            if wait > 0 then
                answers[i] = {LIMITED, wait}
            elseif not complete() then
                answers[i] = NOT_HELD
            else
                local short, unknown, shards, is_next = shortage(id, pieces)
                if short[1] then
                    answers[i] = {SHORT, short}
                elseif unknown then
                    answers[i] = NOT_HELD
                else
                    if is_next then leave_waitlist(id) end
                    take_all(id, pieces, shards)
                    hold(id, pieces, '', now_ms + asked[1])
                    answers[i] = HELD
                end
            end
        end
    end
    return answers
end

-- Whether an order would wait in vain for this SKU: the orders ahead of it want all that can be obtained, or it alone
-- wants more than that of one of its SKUs, or a waitlist is full.
local function hopeless(sku, pieces)
    for j = 1, #pieces, 2 do
        if call('ZCARD', S .. 'line:' .. pieces[j]) >= WAITLIST_MAX then return true end
        local wanted, most = pieces[j + 1], obtainable(pieces[j])
        if pieces[j] == sku then wanted = wanted + tonumber(call('HGET', S .. 'queued', sku) or 0) end
        if most and wanted > most then return true end
    end
    return false
end

-- {hold ms, {{order, ms it will wait, {sku, pieces, ...}}, ...}} -> one answer per order. Joins the waitlist, or
-- returns the order's state on it. Repeating it changes nothing, and restores a place that was lost.
function commands.stand(asked)
    local answers = {}
    for i, order in ipairs(asked[2]) do
        local id, pieces = order[1], order[3]
        local packed = call('HGET', S .. 'holds', id)
        if packed then
            answers[i] = fetched(id, packed, asked[1])
        elseif call('EXISTS', S .. 'done:' .. id) == 1 or not complete() then
            answers[i] = NOT_HELD
        elseif call('HEXISTS', S .. 'waiters', id) == 1 then
            answers[i] = {WAITING}
        else
            local short, unknown, shards = shortage(id, pieces)
            if short[1] then
                if hopeless(short[1][1], pieces) then
                    answers[i] = {SHORT, short}
                else
                    join_waitlist(id, call('INCR', S .. 'number'), short[1][1], pieces, now_ms + order[2])
                    answers[i] = {WAITING, short}
                end
            elseif unknown then
                answers[i] = NOT_HELD
            else
                take_all(id, pieces, shards)
                hold(id, pieces, '', now_ms + asked[1])
                answers[i] = HELD
            end
        end
    end
    return answers
end

-- {hold ms, {{order, whether it still wants what may have been granted}, ...}} -> HELD or SHORT per order
function commands.leave(asked)
    local answers = {}
    for i, order in ipairs(asked[2]) do
        local id = order[1]
        local packed = call('HGET', S .. 'holds', id)
        answers[i] = SHORT
        if packed and order[2] then
            answers[i] = fetched(id, packed, asked[1])
        elseif packed and cmsgpack.unpack(packed)[1] == 'G' then
            serve_each(end_hold(id))
        end
        local sku = leave_waitlist(id)
        if sku then serve(sku) end
    end
    return answers
end

-- {order, ...}: orders that the gateway has given up. One answer per order.
function commands.release(asked)
    local answers = {}
    for i, id in ipairs(asked) do
        answers[i] = NOT_HELD
        local packed = call('HGET', S .. 'holds', id)
        if packed and cmsgpack.unpack(packed)[1] ~= 'P' then serve_each(end_hold(id)) end
        local sku = leave_waitlist(id)
        if sku then serve(sku) end
    end
    return answers
end

-- {order, ...} -> place on the waitlist per order, from 1; 0 for none
function commands.position(asked)
    local answers = {}
    for i, id in ipairs(asked) do
        local packed = call('HGET', S .. 'waiters', id)
        local rank = packed and call('ZRANK', S .. 'line:' .. cmsgpack.unpack(packed)[2], id)
        answers[i] = rank and rank + 1 or 0
    end
    return answers
end

-- Apply one change of a SKU: the pieces by which `free` changed, and the level after it. Each change counts once, in
-- any order of arrival. When all up to the newest have arrived, `free` is set to what the newest said.
local function change(sku, by, on_hand, free, version)
    local key, ahead = S .. 'level:' .. sku, S .. 'ahead:' .. sku
    local level = call('HMGET', key, 'version', 'free', 'top', 'topfree', 'shards', 'may', 'mayat')
    if not level[1] then
        call('DEL', ahead)
        call('HSET', key, 'version', int(version), 'free', int(free), 'on_hand', int(on_hand), 'held', 0,
            'top', int(version), 'topfree', int(free), 'shards', 1)
        return
    end
    local at, was, top, top_free = tonumber(level[1]), tonumber(level[2]), tonumber(level[3]), tonumber(level[4])
    local gaps = top > at
    if version <= at or (gaps and call('HEXISTS', ahead, int(version)) == 1) then return end
    if version > top then
        top, top_free = version, free
        call('HSET', key, 'on_hand', int(on_hand), 'top', int(top), 'topfree', int(top_free))
    end
    local is = was + by
    if version == at + 1 then
        at = version
        while gaps and at < top and call('HDEL', ahead, int(at + 1)) == 1 do at = at + 1 end
        if at == top then is = top_free end
    else
        call('HSET', ahead, int(version), int(by))
    end
    call('HSET', key, 'version', int(at), 'free', int(is))
    -- A claim may still be undone, and freed pieces may have been counted already: too high for a second does no harm.
    if level[6] and version > tonumber(level[7]) and is > was then call('HINCRBY', key, 'may', int(is - was)) end
    shift(sku, tonumber(level[5]), is - was)
end

-- {{what, order, ...}, ...}, in the order of the log. What: 's' stock changed, with {{sku, by, on hand, free, version},
-- ...}: it ends the order's hold; 'p' placed; 'd' refused or rejected, with whether that is final; 'c' the id was used
-- again with other content.
function commands.mirror(events)
    for _, event in ipairs(events) do
        local what, id = event[1], event[2]
        local packed = id ~= '' and call('HGET', S .. 'holds', id)
        if what == 's' then
            for _, each in ipairs(event[3]) do change(unpack(each)) end
            local pieces = packed and end_hold(id)
            if id ~= '' then decided(id) end
            serve_each(pieces or {})
            for _, each in ipairs(event[3]) do serve(each[1]) end
        elseif what == 'p' then
            if packed then
                local record = cmsgpack.unpack(packed)
                record[1] = 'P'
                call('HSET', S .. 'holds', id, cmsgpack.pack(record))
            end
        elseif what == 'd' then
            local pieces = packed and end_hold(id)
            if event[3] then decided(id) end
            serve_each(pieces or {})
        elseif what == 'c' and packed and cmsgpack.unpack(packed)[1] ~= 'P' then
            -- The first order was decided so long ago that its marker has expired: this hold has no order.
            local pieces = end_hold(id)
            decided(id)
            serve_each(pieces)
        end
    end
    return {}
end

-- The pieces held of each SKU, summed over the holds.
local function holds_by_sku()
    local held = {}
    for _, packed in ipairs(call('HVALS', S .. 'holds')) do
        local record = cmsgpack.unpack(packed)
        for j = 2, #record, 2 do held[record[j]] = (held[record[j]] or 0) + record[j + 1] end
    end
    return held
end

-- {levels, decided orders, whether to accept a level older than ours}; a level is {sku, free, on hand, version, shards,
-- or 0 to leave them}. Sets each SKU to Postgres' level, unless later changes were counted already.
function commands.adopt(asked)
    local levels, orders, force = asked[1], asked[2], asked[3]
    for _, id in ipairs(orders) do
        if end_hold(id) then decided(id) end
    end
    local held = holds_by_sku()
    for _, level in ipairs(levels) do
        local sku, free, on_hand, version, shards = unpack(level)
        local key, ahead = S .. 'level:' .. sku, S .. 'ahead:' .. sku
        local ours = call('HMGET', key, 'version', 'free', 'on_hand', 'top', 'topfree', 'shards')
        local parts = tonumber(ours[6] or 1)
        if shards == 0 then shards = parts end
        local top, top_free = version, free
        if force or not ours[1] then
            call('DEL', ahead)
        elseif tonumber(ours[1]) > version then
            version, free, on_hand = tonumber(ours[1]), tonumber(ours[2]), tonumber(ours[3])
            top, top_free = tonumber(ours[4]), tonumber(ours[5])
        else
            local later = {}
            local pairs_ = call('HGETALL', ahead)
            for j = 1, #pairs_, 2 do
                if tonumber(pairs_[j]) > version then
                    later[tonumber(pairs_[j])] = true
                    free = free + tonumber(pairs_[j + 1])
                else
                    call('HDEL', ahead, pairs_[j])
                end
            end
            if tonumber(ours[4]) > version then
                top, top_free, on_hand = tonumber(ours[4]), tonumber(ours[5]), tonumber(ours[3])
            end
            while later[version + 1] do
                version = version + 1
                call('HDEL', ahead, int(version))
            end
            if version == top then free = top_free end
        end
        call('HSET', key, 'version', int(version), 'free', int(free), 'on_hand', int(on_hand),
            'held', int(held[sku] or 0), 'top', int(top), 'topfree', int(top_free), 'shards', shards)
        -- Changes that raise `may` could have been missed.
        call('HDEL', key, 'may', 'mayat')
        for i = shards, parts - 1 do call('DEL', left_key(sku, i)) end
        if shards > 1 then spread(sku, shards, free - (held[sku] or 0)) elseif parts > 1 then
            call('DEL', left_key(sku, 0))
        end
    end
    for _, level in ipairs(levels) do serve(level[1]) end
    return {}
end

-- {sku, ...} -> per SKU the pieces that an order would be admitted for, -1 for an unknown SKU, -2 while the copy is not
-- complete. What a waitlist wants is not to be had.
function commands.available(skus)
    local answers = {}
    for i, sku in ipairs(skus) do
        local _, available = look(sku, math.huge, '')
        if available and call('EXISTS', S .. 'line:' .. sku) == 1 then available = 0 end
        answers[i] = complete() and (available and math.max(0, available) or -1) or -2
    end
    return answers
end

-- {sku, ...} -> per SKU {version, free, held, sum of its holds, available, newest version received}; {-1} for unknown
function commands.audit(skus)
    local held = holds_by_sku()
    local answers = {}
    for i, sku in ipairs(skus) do
        local level = call('HMGET', S .. 'level:' .. sku, 'version', 'free', 'held', 'shards', 'top')
        if not level[1] then
            answers[i] = {-1}
        else
            local shards = tonumber(level[4])
            local available = tonumber(level[2]) - tonumber(level[3])
            if shards > 1 then
                available = 0
                for k = 0, shards - 1 do available = available + tonumber(call('GET', left_key(sku, k)) or 0) end
            end
            answers[i] = {tonumber(level[1]), tonumber(level[2]), tonumber(level[3]), held[sku] or 0, available,
                tonumber(level[5])}
        end
    end
    return answers
end

-- {limit} -> {order, {sku, pieces, ...}} of the orders that hold, those that expire first
function commands.held(asked)
    local answers = {}
    for _, id in ipairs(call('ZRANGE', S .. 'until', 0, asked[1] - 1)) do
        local packed = call('HGET', S .. 'holds', id)
        if packed then answers[#answers + 1] = {id, {unpack(cmsgpack.unpack(packed), 2)}} end
    end
    return answers
end

-- Remove from the waitlist the orders for which nothing of `most` pieces is left after the orders ahead of them.
local function shorten(sku, most)
    local waitlist, sum, first = S .. 'line:' .. sku, 0, 0
    while true do
        local ids = call('ZRANGE', waitlist, first, first + WAITLIST_STEP - 1)
        if not ids[1] then break end
        local waiters, gone = call('HMGET', S .. 'waiters', unpack(ids)), {}
        for i, id in ipairs(ids) do
            local wanted = waiters[i] and wanted_of({unpack(cmsgpack.unpack(waiters[i]), 3)}, sku)
            if wanted and sum + wanted <= most then sum = sum + wanted else gone[#gone + 1] = id end
        end
        if gone[1] then
            call('ZREM', waitlist, unpack(gone))
            call('HDEL', S .. 'waiters', unpack(gone))
            call('ZREM', S .. 'places', unpack(gone))
        end
        first = first + #ids - #gone
    end
    if sum > 0 then call('HSET', S .. 'queued', sku, int(sum)) else call('HDEL', S .. 'queued', sku) end
end

-- {{sku, pieces, version}, ...}: how many pieces can still be obtained, as Postgres had it at a version. Ignored if a
-- later change was received, which may have raised it. Orders that can't get their pieces leave the waitlist.
function commands.limit(asked)
    for _, each in ipairs(asked) do
        local sku, most, version = each[1], each[2], each[3]
        local key = S .. 'level:' .. sku
        local level = call('HMGET', key, 'top', 'may', 'mayat')
        local before = tonumber(level[3] or -1)
        if level[1] and tonumber(level[1]) <= version and before <= version and complete() then
            -- Between two changes it only decreases, so the smaller of two values was read later.
            if before == version then most = math.min(most, tonumber(level[2])) end
            call('HSET', key, 'may', int(most), 'mayat', int(version))
            if tonumber(call('HGET', S .. 'queued', sku) or 0) > most then
                shorten(sku, most)
                serve(sku)
            end
        end
    end
    return {}
end

-- {} -> {whether the copy is complete, the server's run id, SKUs that have a waitlist, ms until the next hold or place
-- expires}. The last is 0 while there are waitlists, -1 if nothing will expire. Serves all waitlists, in case a call
-- that should have done it was lost.
function commands.tick()
    local waitlisted = {}
    for _, sku in ipairs(call('SMEMBERS', S .. 'lines')) do
        serve(sku)
        if call('EXISTS', S .. 'line:' .. sku) == 1 then
            waitlisted[#waitlisted + 1] = sku
        else
            call('SREM', S .. 'lines', sku)
            call('HDEL', S .. 'queued', sku)
        end
    end
    local due
    for _, key in ipairs({'until', 'places'}) do
        local first = call('ZRANGE', S .. key, 0, 0, 'WITHSCORES')
        if first[2] then due = math.min(due or math.huge, math.max(0, tonumber(first[2]) - now_ms)) end
    end
    if waitlisted[1] then due = 0 end
    return {complete() and true or false, server(), waitlisted, due or -1}
end

-- {run id}: all stock was copied from Postgres while this server ran.
function commands.complete(asked)
    if asked[1] ~= server() then return {false} end
    call('SET', S .. 'complete', asked[1])
    is_complete = true
    return {true}
end

sweep()
return cmsgpack.pack(commands[ARGV[1]](cmsgpack.unpack(ARGV[2])))
