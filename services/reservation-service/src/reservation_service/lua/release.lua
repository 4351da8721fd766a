-- Drop marks, each only if it is still this reservation's.
--
-- KEYS  marks
-- ARGV  1 reservation id
local own = ARGV[1] .. '|'
local released = 0
for place = 1, #KEYS do
    local mark = redis.call('GET', KEYS[place])
    if mark and string.sub(mark, 1, #own) == own then
        released = released + redis.call('DEL', KEYS[place])
    end
end
return released
