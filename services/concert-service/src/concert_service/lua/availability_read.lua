-- What is known of a performance's availability. Reads only.
-- KEYS: state hash, bitmap, changes (sorted set by version). ARGV: the version the caller holds.
-- Returns nil when it must be loaded, {version} when the caller is up to date,
-- {version, bitmap, changes the caller has not seen} otherwise.
local version = redis.call('HGET', KEYS[1], 'version')
local required = redis.call('HGET', KEYS[1], 'required')
if not version or (required and tonumber(required) > tonumber(version)) then
  return false
end
if tonumber(version) == tonumber(ARGV[1]) then
  return {version}
end
local bitmap = redis.call('GET', KEYS[2])
if not bitmap then
  return false
end
return {version, bitmap, redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf')}
