-- A reservation is over: drop its marks, and let none be set for it afterwards.
--
-- KEYS  1 whether the reservation is over · 2… marks, each dropped only if it is still its own
-- ARGV  1 reservation id · 2 how long a call may come late (ms)
--
-- Settling and selling mark seats after their commit. Their process may freeze in between, and must
-- not take a seat out of the sale again that was cancelled, and so is free, when it wakes.
redis.call('SET', KEYS[1], '1', 'PX', ARGV[2])
local own = ARGV[1] .. '|'
local released = 0
for place = 2, #KEYS do
    local mark = redis.call('GET', KEYS[place])
    if mark and string.sub(mark, 1, #own) == own then
        released = released + redis.call('DEL', KEYS[place])
    end
end
return released
