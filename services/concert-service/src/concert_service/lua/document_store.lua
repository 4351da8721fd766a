-- A loader's write of a cached document, fenced by its version like the availability's.
-- KEYS: the document's hash. ARGV: version, body, TTL (ms).
-- Returns -1 when stored, else the version a load has to reach.
local function known(field)
  return tonumber(redis.call('HGET', KEYS[1], field) or '-1')
end
local new = tonumber(ARGV[1])
local needed = math.max(known('version'), known('required'))
if needed > new then
  return needed
end
redis.call('HSET', KEYS[1], 'version', new, 'body', ARGV[2])
redis.call('HDEL', KEYS[1], 'required')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return -1
