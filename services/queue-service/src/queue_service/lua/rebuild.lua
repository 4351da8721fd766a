-- The room anew, or held against MySQL after the server restarted. Called in parts; nobody enters
-- before the last one, since only it writes the server's run id that turn.lua asks for.
--
-- ARGV: epoch, part ('first', 'rows', 'last'), JSON of fields, then rows: ticket, user, number,
-- sequence, in line since, delivered, expires, ends at (all moments in ms of Redis TIME; the last
-- one as an age to be added to now).
local epoch, part = tonumber(ARGV[1]), ARGV[2]
local fields = cjson.decode(ARGV[3])
local room = load_any_room()

if part == 'first' then
  if room and room.epoch >= epoch then return 'known' end
  if not room then
    redis.call('UNLINK', key('alive'), key('prefix'), key('draw'), key('in'), key('todo'),
      key('rate'), key('stock'))
    redis.call('HSET', KEYS[1], 'born', int(now), 'waiting', 0, 'front', fields.last + 1,
      'last', fields.last, 'ceiling', fields.ceiling, 'seq', fields.seq, 'seed', fields.seed,
      'opened', fields.opened, 'drawn_base', fields.drawn_base, 'drawn_count', fields.drawn_count,
      'version', 0, 'seen_floor', int(now), 'turned_at', int(now))
    -- Joins may come before steer.lua does.
    for field, value in pairs(fields.steering) do
      if type(value) == 'number' then value = int(value) end
      redis.call('HSET', KEYS[1], field, value)
    end
  else
    -- Numbers handed out in the lost moment stay theirs: go on behind all that may exist.
    redis.call('HSET', KEYS[1], 'last', math.max(room.last, fields.last),
      'ceiling', math.max(room.ceiling, fields.ceiling), 'seq', math.max(room.seq, fields.seq),
      'seen_floor', int(now), 'turned_at', int(now))
  end
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'run_id', '',
    'hold_until', fields.fresh == 1 and 0 or int(now + fields.hold_ms),
    'restore_until', int(now + fields.restore_ms), 'restore_to', fields.last)
  return 'begun'
end
if not room or room.epoch ~= epoch then return 'known' end

for i = 4, #ARGV, 8 do
  local ticket, user, number = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local slot = get_slot(ticket)
  if not slot then
    slot = { written = 1, cause = 0, number = number, seq = tonumber(ARGV[i + 3]), taken = now,
      since = tonumber(ARGV[i + 4]), delivered = tonumber(ARGV[i + 5]),
      expires = tonumber(ARGV[i + 6]), user = user }
    local place = get_place(room, user)
    if place and place.state == WAITING then
      settle_number(room, user, place)
      step_out(room, user, place)
    end
    put_place(user, { state = INSIDE, number = number, seen = now,
      since = math.max(slot.since, room.born), ticket = ticket })
    owe('e', ticket, slot.expires > 0 and slot.expires or now + tonumber(ARGV[i + 7]))
  end
  slot.epoch = epoch
  put_slot(ticket, slot)
end
set_room(room, 'waiting')

if part == 'last' then
  -- Inside here, and neither alive in MySQL nor waiting to be written there: it has ended.
  local flat = redis.call('HGETALL', key('in'))
  for i = 1, #flat, 2 do
    local slot = get_slot(flat[i])
    if slot.epoch ~= epoch and not redis.call('ZSCORE', key('todo'), 'a' .. flat[i]) then
      redis.call('HDEL', key('in'), flat[i])
      paid('e', flat[i])
      paid('d', flat[i])
      local place = get_place(room, slot.user)
      if place and place.ticket == flat[i] then
        place.state = EXPIRED
        put_place(slot.user, place)
      end
    end
  end
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  redis.call('HSET', KEYS[1], 'run_id', run_id)
  return 'rebuilt'
end
return 'filled'
