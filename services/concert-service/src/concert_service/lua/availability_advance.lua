-- The projection's write after its commit. Harmless when repeated.
-- KEYS: state hash, bitmap, changes. ARGV: base version, new version, the change as kept in the
-- history, history limit, history TTL (ms), fence TTL (ms), number of taken positions, the taken
-- positions, the freed positions.
-- Returns 'written', 'older' (refused: this or something newer is known), or 'gap' (an earlier
-- write was lost, or nothing is here: the next reader has to load at least this version).
local function known(field)
  return tonumber(redis.call('HGET', KEYS[1], field) or '-1')
end
local base, new = tonumber(ARGV[1]), tonumber(ARGV[2])
local version, required = known('version'), known('required')
if version >= new or required >= new then
  return 'older'
end
if version ~= base or required > version or redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[1], 'required', new)
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
  return 'gap'
end
local taken = tonumber(ARGV[7])
for index = 8, #ARGV do
  redis.call('SETBIT', KEYS[2], ARGV[index], index < 8 + taken and 1 or 0)
end
redis.call('HSET', KEYS[1], 'version', new)
redis.call('ZADD', KEYS[3], new, ARGV[3])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[4]))
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return 'written'
