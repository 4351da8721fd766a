-- What MySQL says about policy and sale becomes the room's. ARGV: version, number of fields, the
-- fields and values, then triples of performance, counted (1: its seats are on sale), and
-- `version:seats` or ''. Older versions change nothing.
local room = load_room()
if not room then return 'missing' end
local version, fields = tonumber(ARGV[1]), tonumber(ARGV[2])
if version <= (room.version or 0) then return 'known' end
for i = 3, 2 + fields * 2, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'version', ARGV[1])
for i = 3 + fields * 2, #ARGV, 3 do
  local held = redis.call('HGET', key('stock'), ARGV[i])
  local figure = held and string.match(held, '^%d:(.*)$') or ''
  local stock_version = tonumber(string.match(ARGV[i + 2], '^(%d+):') or -1)
  if stock_version > tonumber(string.match(figure, '^(%d+):') or -1) then figure = ARGV[i + 2] end
  redis.call('HSET', key('stock'), ARGV[i], ARGV[i + 1] .. ':' .. figure)
end
count_stock()
return 'steered'
