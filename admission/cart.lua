-- A seller's carts. KEYS[1] is the seller's, with its hash tag; ARGV[1] is the command, ARGV[2] its arguments as
-- MessagePack; answers are MessagePack too.
--
--   <cart>            hash    version: 1, 2, 3 … for each change; next: the place of the next new line
--                             order, at: the order that it is checked out as, and since when; absent while it is open
--                             priced: what that order was priced as, for its repeats
--                             line:<sku> -> {place, quantity, unit price, currency, whether with tax, product} packed
-- Beside them, for a second: <seller>-puts:<length>:<cart>:<sku>, when the cart's bucket for the SKU is full again, µs.
local C = KEYS[1] .. ':'
local call = redis.call
local time = call('TIME')
local now, now_us = tonumber(time[1]), tonumber(time[1]) * 1000000 + tonumber(time[2])

local LINES_MAX = 100
-- A line may be put so many times at once, and once more every TOKEN_US: as often as the SKU may be checked out.
local BURST, TOKEN_US = 5, 200000
local OK, STALE, FULL, CHECKED_OUT, MIXED, LIMITED, REPEATED = 0, 1, 2, 3, 4, 5, 6

-- {version, order, since, priced, {{sku, place, quantity, unit price, currency, whether with tax, product}, ...}}; the
-- version of a cart that there is not is 0.
local function show(id)
    local fields = call('HGETALL', C .. id)
    local cart, lines = {version = 0, order = '', at = 0, priced = ''}, {}
    for i = 1, #fields, 2 do
        local sku = string.match(fields[i], '^line:(.*)$')
        if sku then
            local line = cmsgpack.unpack(fields[i + 1])
            lines[#lines + 1] = {sku, unpack(line)}
        else
            cart[fields[i]] = fields[i + 1]
        end
    end
    table.sort(lines, function(one, other) return one[2] < other[2] end)
    return {tonumber(cart.version), cart.order, tonumber(cart.at), cart.priced, lines}
end

local function changed(id, ttl)
    call('HINCRBY', C .. id, 'version', 1)
    call('EXPIRE', C .. id, ttl)
end

-- Why a cart may not be changed; nil if it may. `version` is -1 for any.
local function refused(cart, version)
    if cart[2] ~= '' then return CHECKED_OUT end
    if version >= 0 and cart[1] ~= version then return STALE end
end

-- Whether the cart's bucket for the SKU had a token, which is then taken.
local function spend(id, sku)
    local key = KEYS[1] .. '-puts:' .. #id .. ':' .. id .. ':' .. sku
    local at = math.max(now_us, tonumber(call('GET', key) or 0))
    -- Emptier than possible: the clock was set back.
    if at > now_us + BURST * TOKEN_US then at = now_us end
    if at > now_us + (BURST - 1) * TOKEN_US then return false end
    call('SET', key, string.format('%.0f', at + TOKEN_US), 'PX', math.ceil((at + TOKEN_US - now_us) / 1000))
    return true
end

local commands = {}

-- {cart, seconds to live} -> cart. Reading is activity.
function commands.get(asked)
    call('EXPIRE', C .. asked[1], asked[2])
    return show(asked[1])
end

-- {cart, seconds to live, version, sku, quantity, unit price, currency, whether with tax, product} -> {status, cart}.
-- Without a quantity the line is removed.
function commands.put(asked)
    local id, ttl, version, sku, quantity, price, currency, with_tax, product = unpack(asked)
    local cart = show(id)
    local status = refused(cart, version)
    if status then return {status, cart} end
    local place
    for _, line in ipairs(cart[5]) do
        if line[1] == sku then
            place = line[2]
        elseif quantity > 0 and (line[5] ~= currency or line[6] ~= with_tax) then
            return {MIXED, cart}
        end
    end
    if quantity == 0 then
        if place then
            call('HDEL', C .. id, 'line:' .. sku)
            changed(id, ttl)
        end
        return {OK, show(id)}
    end
    if not place and #cart[5] >= LINES_MAX then return {FULL, cart} end
    if not spend(id, sku) then return {LIMITED, cart} end
    place = place or call('HINCRBY', C .. id, 'next', 1)
    call('HSET', C .. id, 'line:' .. sku, cmsgpack.pack({place, quantity, price, currency, with_tax, product}))
    changed(id, ttl)
    return {OK, show(id)}
end

-- {from, into, seconds to live, {sku -> pieces that may be had}} -> {status, cart, {{sku, wanted, quantity}, ...}}: the
-- lines of the one are added to those of the other, and the one is no more. What could not be added as wanted is named.
-- The cart is the one with the lines of both, or the one that is checked out.
function commands.merge(asked)
    local from, into, ttl, most = unpack(asked)
    local theirs, ours = show(from), show(into)
    local status = refused(ours, -1)
    if status then return {status, ours, {}} end
    if theirs[2] ~= '' then return {CHECKED_OUT, theirs, {}} end
    local lines, count, conflicts, first = {}, #ours[5], {}, ours[5][1] or theirs[5][1]
    for _, line in ipairs(ours[5]) do lines[line[1]] = line end
    for _, line in ipairs(theirs[5]) do
        local sku, before = line[1], lines[line[1]]
        local wanted = line[3] + (before and before[3] or 0)
        local quantity = math.min(wanted, most[sku] or wanted)
        if line[5] ~= first[5] or line[6] ~= first[6] or (not before and count >= LINES_MAX) then quantity = 0 end
        if before then
            quantity = math.max(quantity, before[3])
            before[3] = quantity
            call('HSET', C .. into, 'line:' .. sku, cmsgpack.pack({unpack(before, 2)}))
        elseif quantity > 0 then
            count = count + 1
            local place = call('HINCRBY', C .. into, 'next', 1)
            call('HSET', C .. into, 'line:' .. sku, cmsgpack.pack({place, quantity, unpack(line, 4)}))
        end
        if quantity < wanted then conflicts[#conflicts + 1] = {sku, wanted, quantity} end
    end
    if theirs[5][1] then changed(into, ttl) end
    call('DEL', C .. from)
    return {OK, show(into), conflicts}
end

-- {cart, seconds to live, version, order, priced} -> {status, cart}: it becomes this order, unless it is another already,
-- or is this one (REPEATED).
function commands.check_out(asked)
    local id, ttl, version, order, priced = unpack(asked)
    local cart = show(id)
    if cart[2] == order then return {REPEATED, cart} end
    local status = refused(cart, version)
    if status then return {status, cart} end
    call('HSET', C .. id, 'order', order, 'at', now, 'priced', priced)
    changed(id, ttl)
    return {OK, show(id)}
end

-- {cart, seconds to live, version, {sku -> unit price}} -> cart: the buyer has seen these prices.
function commands.reprice(asked)
    local id, ttl, version, prices = unpack(asked)
    local cart = show(id)
    if refused(cart, version) then return cart end
    for _, line in ipairs(cart[5]) do
        if prices[line[1]] then
            line[4] = prices[line[1]]
            call('HSET', C .. id, 'line:' .. line[1], cmsgpack.pack({unpack(line, 2)}))
        end
    end
    changed(id, ttl)
    return show(id)
end

-- {cart, seconds to live, order}: the order came to nothing; the cart is open again.
function commands.reopen(asked)
    local id, ttl, order = unpack(asked)
    if call('HGET', C .. id, 'order') == order then
        call('HDEL', C .. id, 'order', 'at', 'priced')
        changed(id, ttl)
    end
    return show(id)
end

-- {cart, order}: the order is confirmed; the cart is no more.
function commands.finish(asked)
    if call('HGET', C .. asked[1], 'order') == asked[2] then call('DEL', C .. asked[1]) end
    return {}
end

-- {cart}: whether there was one.
function commands.delete(asked)
    return {call('DEL', C .. asked[1]) == 1}
end

return cmsgpack.pack(commands[ARGV[1]](cmsgpack.unpack(ARGV[2])))
