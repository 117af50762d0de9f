-- What searches have found, for a while. KEYS[1] names one question of one seller in one state of an index; ARGV[1] is
-- the command, ARGV[2] its arguments as MessagePack; answers are MessagePack too.
local commands = {}

-- {} -> the answer that was kept; false without one.
function commands.read()
    return redis.call('GET', KEYS[1])
end

-- {answer, seconds that it is kept} -> true
function commands.keep(asked)
    redis.call('SET', KEYS[1], asked[1], 'EX', asked[2])
    return true
end

return cmsgpack.pack(commands[ARGV[1]](cmsgpack.unpack(ARGV[2])))
