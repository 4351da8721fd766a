-- The caller is told to come back: the key's record says so, unless the lane was faster.
--
-- KEYS  1 record of user and key
-- ARGV  1 reservation id
local known = redis.call('HMGET', KEYS[1], 'id', 'state')
if known[1] == ARGV[1] and known[2] == 'open' then
    redis.call('HSET', KEYS[1], 'state', 'pending')
end
return 1
