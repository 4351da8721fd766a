-- Numbers up to ARGV[1] are reserved in MySQL and may be handed out.
local room = load_room()
if not room then return 'missing' end
if tonumber(ARGV[1]) > room.ceiling then redis.call('HSET', KEYS[1], 'ceiling', ARGV[1]) end
return 'raised'
