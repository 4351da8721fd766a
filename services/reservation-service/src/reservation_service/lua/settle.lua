-- A request is decided and committed: bring record, pending record and marks in line.
--
-- KEYS  1 record of user and key · 2 pending record · 3 whether the reservation is over
--       4… marks of the seats
-- ARGV  1 reservation id · 2 id whose row has the answer · 3 its body hash · 4 record time (ms)
--       5 end of the hold (Unix ms), or 0: the request got nothing, its claims are released
--       6 what the pending record becomes (JSON), or '' to drop it
--
-- A hold takes over claims, its own or another's (the lane has decided), but never the mark of
-- another hold or sale: this call may come late from a process that was frozen meanwhile. For the
-- same reason a hold that is over is not marked any more.
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'hash', ARGV[3], 'state', 'decided')
redis.call('HDEL', KEYS[1], 'until', 'lost')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if ARGV[6] == '' then
    redis.call('DEL', KEYS[2])
else
    redis.call('SET', KEYS[2], ARGV[6], 'PX', ARGV[4])
end
local own = ARGV[1] .. '|'
local over = ARGV[5] == '0' or redis.call('EXISTS', KEYS[3]) == 1
for place = 4, #KEYS do
    local mark = redis.call('GET', KEYS[place])
    local mine = mark and string.sub(mark, 1, #own) == own
    if over then
        if mine then redis.call('DEL', KEYS[place]) end
    elseif not mark or mine or string.sub(mark, -6) == '|claim' then
        redis.call('SET', KEYS[place], own .. 'held', 'PXAT', ARGV[5])
    end
end
return 1
