-- Claim seats for one request, all or none, and open the record of its idempotency key.
--
-- KEYS  1 record of user and key · 2 pending record of the reservation · 3… marks, one a seat
-- ARGV  1 reservation id · 2 body hash · 3 claim and in-flight time (ms) · 4 record time (ms)
--       5 pending record (JSON)
-- Returns {outcome, reservation id, positions of the lost seats}; outcomes:
--   granted     the seats are this request's for the claim time
--   lost        some seats are somebody else's; remembered as this key's answer
--   open        the first call with this key is still being answered
--   taken_over  the first call died or failed before it answered: carry on under its id
--   pending     the first call was told to come back
--   decided     the row has the answer
--   reused      the key came with another body before
--
-- The record lives as long as an answer must be repeatable, its open phase only as long as a
-- claim: a claim must never outlive the record, or a fan would lose a seat to himself.
-- Safe to repeat: a client library may send it again when the reply was lost.
local id, hash = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', KEYS[1], 'id', 'hash', 'state', 'until', 'lost')

if known[1] then
    if known[2] ~= hash then return {'reused', known[1], ''} end
    if known[3] ~= 'open' then return {known[3], known[1], known[5] or ''} end
    if known[1] == id then return {'granted', id, ''} end
    if tonumber(known[4]) > now then return {'open', known[1], ''} end
    redis.call('HSET', KEYS[1], 'until', now + ARGV[3])
    return {'taken_over', known[1], ''}
end

local own = id .. '|'
local lost = {}
for place = 3, #KEYS do
    local mark = redis.call('GET', KEYS[place])
    if mark and string.sub(mark, 1, #own) ~= own then lost[#lost + 1] = place - 3 end
end
if #lost > 0 then
    local places = table.concat(lost, ',')
    redis.call('HSET', KEYS[1], 'id', id, 'hash', hash, 'state', 'lost', 'lost', places)
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    return {'lost', id, places}
end
for place = 3, #KEYS do
    redis.call('SET', KEYS[place], own .. 'claim', 'PX', ARGV[3])
end
redis.call('HSET', KEYS[1], 'id', id, 'hash', hash, 'state', 'open', 'until', now + ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[4])
return {'granted', id, ''}
