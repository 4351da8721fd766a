-- From now on nothing older than this version may be shown or stored: the next reader loads.
-- KEYS: a document's hash, or an availability's state hash. ARGV: version, TTL of the fence (ms).
-- Returns 1, or 0 when that was known already.
local function known(field)
  return tonumber(redis.call('HGET', KEYS[1], field) or '-1')
end
local new = tonumber(ARGV[1])
if known('version') >= new or known('required') >= new then
  return 0
end
redis.call('HSET', KEYS[1], 'required', new)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
