-- Seats left of one performance. ARGV: performance, version, seats left. Older versions change
-- nothing; a performance not yet known is remembered but not counted.
local room = load_room()
if not room then return 'missing' end
local held = redis.call('HGET', key('stock'), ARGV[1]) or '0:'
local known = tonumber(string.match(held, '^%d:(%d+):') or -1)
if tonumber(ARGV[2]) <= known then return 'known' end
redis.call('HSET', key('stock'), ARGV[1],
  string.sub(held, 1, 2) .. ARGV[2] .. ':' .. ARGV[3])
count_stock()
return 'counted'
