-- Mark sold seats for a while, so that nobody asks the lane for them in vain.
--
-- KEYS  1 whether the owning reservation is over: then nothing is marked · 2… marks
-- ARGV  1 reservation id that owns the seats · 2 time (ms)
--
-- A claim gives way: the database says whose the seat is.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local own = ARGV[1] .. '|'
for place = 2, #KEYS do
    local mark = redis.call('GET', KEYS[place])
    if not mark or string.sub(mark, 1, #own) == own or string.sub(mark, -6) == '|claim' then
        redis.call('SET', KEYS[place], own .. 'sold', 'PX', ARGV[2])
    end
end
return 1
