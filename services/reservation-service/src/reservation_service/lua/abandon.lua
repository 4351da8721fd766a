-- The request could not be published: give the claims back and let the next call carry on.
--
-- KEYS  1 record of user and key · 2… marks
-- ARGV  1 reservation id
--
-- The record stays, with its time over: the publish may have worked all the same, and a new id
-- for the same key could then lose the seats to its own first try.
local known = redis.call('HMGET', KEYS[1], 'id', 'state')
if known[1] == ARGV[1] and known[2] == 'open' then
    redis.call('HSET', KEYS[1], 'until', 0)
end
local own = ARGV[1] .. '|'
for place = 2, #KEYS do
    local mark = redis.call('GET', KEYS[place])
    if mark and string.sub(mark, 1, #own) == own then redis.call('DEL', KEYS[place]) end
end
return 1
