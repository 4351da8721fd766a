-- A loader's write. Its fence is the version: a loader that read an older one than is known here
-- (a lagging replica, a frozen process whose lock ran out) must not overwrite.
-- KEYS: state hash, bitmap, changes. ARGV: version, bitmap, TTL (ms).
-- Returns -1 when stored, else the version a load has to reach.
local function known(field)
  return tonumber(redis.call('HGET', KEYS[1], field) or '-1')
end
local new = tonumber(ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')
local needed = math.max(known('version'), known('required'), tonumber(last[2] or '-1'))
if needed > new then
  return needed
end
-- The history may miss changes up to this version; readers follow it only while it is unbroken.
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('HSET', KEYS[1], 'version', new)
redis.call('HDEL', KEYS[1], 'required')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return -1
