-- What is remembered of an idempotency key; changes nothing. Outcomes as in claim.lua, or nil.
--
-- KEYS  1 record of user and key
-- ARGV  1 body hash
local known = redis.call('HMGET', KEYS[1], 'id', 'hash', 'state', 'until', 'lost')
if not known[1] then return nil end
if known[2] ~= ARGV[1] then return {'reused', known[1], ''} end
if known[3] ~= 'open' then return {known[3], known[1], known[5] or ''} end
local time = redis.call('TIME')
if tonumber(known[4]) > time[1] * 1000 + math.floor(time[2] / 1000) then
    return {'open', known[1], ''}
end
return {'taken_over', known[1], ''}
