-- The room of one concert: what every script of the waiting room shares. It is put in front of
-- each of them by store/room.py, so that join, poll, leave, turn and settle mean the same things.
--
-- KEYS[1] is `<prefix>{<concert>}:room`; every other key of the queue stands beside it under the
-- same hash tag:
--   room        HASH  one field a fact (see FIELDS)
--   u:<bucket>  HASH  user -> place, in small buckets, so that Redis keeps them as listpacks
--   n:<chunk>   HASH  number -> user, 128 numbers a chunk
--   alive       BITS  bit n: number n waits. People ahead are a BITCOUNT of one block of it
--   prefix      HASH  block -> how many wait in all blocks before it, renewed each second
--   draw        ZSET  before a shuffled opening: user by draw; after it: who drew which number
--   in          HASH  ticket -> slot: who is inside. Its length is the number of slots taken
--   todo        ZSET  what is owed to MySQL (kind + ticket) by the time it may be (re)claimed
--   rate        HASH  admissions in each of the last five-second spans
--   stock       HASH  performance -> version:counted:seats left
--
-- Time is Redis TIME in milliseconds. Every script may run twice for one call (redis-py repeats a
-- command whose answer got lost) and must then change nothing more.

local BUCKETS = 16384
local CHUNK = 128
local BLOCK = 16384
local SPAN_MS = 5000
local SPANS = 12

-- Place: state, number, last heartbeat, in line since, ticket id. 34 bytes.
local PLACE = '>BI5I6I6c16'
local WAITING, INSIDE, EXPIRED, DONE = 1, 2, 3, 4

-- Slot: written to MySQL?, cause of its end (0: none), number, sequence, epoch, taken at,
-- delivered at, expires at, in line since; then the user.
local SLOT = '>BBI5I5I4I6I6I6I6'
local SLOT_BYTES = 40
local PURCHASED, LEFT, LAPSED, UNCOLLECTED, CLOSED = 1, 2, 3, 4, 5

local BASE = string.sub(KEYS[1], 1, -5)
local FIELDS = {
  'epoch', 'run_id', 'version', 'mode', 'opens_at', 'any_open', 'over', 'sale_paused', 'shuffle',
  'max_active', 'per_minute', 'ttl', 'grace', 'opened', 'frozen', 'drawn_base', 'drawn_count',
  'last', 'ceiling', 'front', 'waiting', 'tat', 'serving', 'hold_until', 'restore_until',
  'restore_to', 'seen_floor', 'turned_at', 'rate', 'sold_out', 'seats_left', 'born', 'seq',
  'draw_at', 'swept', 'cleared', 'counted_at', 'rated_from',
}
local TEXTS = { run_id = true, mode = true }

local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

local function key(name) return BASE .. name end
local function int(value) return string.format('%.0f', value) end

local function load_any_room()
  local values = redis.call('HMGET', KEYS[1], unpack(FIELDS))
  if not values[1] then return nil end
  local room = {}
  for i, field in ipairs(FIELDS) do
    local value = values[i]
    if value == '' then value = false end
    if value and not TEXTS[field] then value = tonumber(value) end
    room[field] = value
  end
  return room
end

-- While a room is being rebuilt it has no run id, and nobody may see it half full.
local function load_room()
  local room = load_any_room()
  return room and room.run_id and room
end

local function set_room(room, ...)
  local pairs_ = {}
  for _, field in ipairs({ ... }) do
    local value = room[field]
    pairs_[#pairs_ + 1] = field
    if type(value) == 'number' then value = int(value) end
    pairs_[#pairs_ + 1] = value or ''
  end
  redis.call('HSET', KEYS[1], unpack(pairs_))
end

-- What the policy and the sale make of the room now. `paused` is also a sale whose open
-- performances all pause; `sold_out` is no seat left in any open performance.
local function room_state(room)
  if room.mode == 'closed' or room.over == 1 then return 'closed' end
  if room.mode == 'passthrough' then return 'open' end
  local open
  if room.opens_at then open = now >= room.opens_at else open = room.any_open == 1 end
  if not open then return 'pre_queue' end
  if room.mode == 'paused' or room.sale_paused == 1 then return 'paused' end
  if room.sold_out == 1 then return 'sold_out' end
  return 'open'
end

-- Before a shuffled opening nobody's number is final.
local function undrawn(room) return room.shuffle == 1 and room.opened ~= 1 end

-- The token bucket as one moment (GCRA), in microseconds. Its size and rate together let no 60 s
-- window, however placed, see more than `admit_per_minute` admissions: a bucket of b tokens that is
-- refilled at (m - b + 1) a minute gives fewer than m + 1 in any half-open minute. The size is half
-- a second's worth, at least one, and a quarter of a second more, so that turns which come a
-- little late lose nothing.
local function bucket_of_tokens(room)
  local size = math.max(1, room.per_minute / 120) + room.per_minute / 240
  return math.ceil(60000000 / (room.per_minute - size + 1)), size
end

local function tokens(room)
  local interval, size = bucket_of_tokens(room)
  local since = math.max(room.tat or 0, now_us - size * interval)
  return math.max(0, math.floor((now_us - since) / interval))
end

local function spend(room, count)
  local interval, size = bucket_of_tokens(room)
  local since = math.max(room.tat or 0, now_us - size * interval)
  room.tat = since + count * interval
end

local function slots_free(room)
  if room.mode == 'passthrough' then return math.huge end
  return math.max(0, math.min(room.max_active - redis.call('HLEN', key('in')), tokens(room)))
end

local function admitting(room)
  return room_state(room) == 'open' and now >= (room.hold_until or 0)
end

-- Whether a turn would admit somebody now: the caller of join or settle then takes one.
local function has_room(room)
  if room.waiting > 0 and admitting(room) and slots_free(room) >= 1 then return 1 end
  return 0
end

-- Places ------------------------------------------------------------------------------------

local function bucket_key(user)
  return key('u:' .. tonumber(string.sub(redis.sha1hex(user), 1, 4), 16) % BUCKETS)
end

local function chunk_key(number) return key('n:' .. math.floor(number / CHUNK)) end

local function get_place(room, user)
  local raw = redis.call('HGET', bucket_key(user), user)
  if not raw then return nil end
  local place = {}
  place.state, place.number, place.seen, place.since, place.ticket = struct.unpack(PLACE, raw)
  -- Left over from before the room's data was lost: the room starts without it.
  if place.since < room.born then return nil end
  return place
end

local function put_place(user, place)
  redis.call('HSET', bucket_key(user), user,
    struct.pack(PLACE, place.state, place.number, place.seen, place.since, place.ticket))
end

local function drop_place(user) redis.call('HDEL', bucket_key(user), user) end

-- Heartbeats count from the moment the room could last hear them: an outage of ours costs nobody
-- the place.
local function stale(room, place)
  return now - math.max(place.seen, room.seen_floor or 0) > room.grace * 1000
end

-- A place's luck at a shuffled opening: nobody can know it before the seed is told, and everybody
-- can check it afterwards.
local function draw_of(seed, ticket)
  return tonumber(string.sub(redis.sha1hex(seed .. ticket), 1, 13), 16)
end

-- Who was shuffled at the opening learns the drawn number here, at the first touch.
local function settle_number(room, user, place)
  if place.state == WAITING and room.opened == 1 and room.drawn_count
      and place.number <= room.drawn_base then
    local rank = redis.call('ZRANK', key('draw'), user)
    if rank then place.number = room.drawn_base + 1 + rank end
  end
end

local function user_of(room, number)
  if room.drawn_count and number > room.drawn_base
      and number <= room.drawn_base + room.drawn_count then
    local user = redis.call('ZRANGE', key('draw'), number - room.drawn_base - 1,
      number - room.drawn_base - 1)[1]
    if user then return user end
  end
  return redis.call('HGET', chunk_key(number), number)
end

local function stand_in_line(room, user, place)
  redis.call('HSET', chunk_key(place.number), place.number, user)
  if redis.call('SETBIT', key('alive'), place.number, 1) == 0 then
    room.waiting = room.waiting + 1
  end
  if place.number < room.front then room.front = place.number end
end

-- Out of the line; the place itself stays as the caller leaves it.
local function step_out(room, user, place)
  if redis.call('SETBIT', key('alive'), place.number, 0) == 1 then
    room.waiting = room.waiting - 1
  end
  redis.call('HDEL', chunk_key(place.number), place.number)
  if room.opened ~= 1 then redis.call('ZREM', key('draw'), user) end
end

local function expire_place(room, user, place)
  step_out(room, user, place)
  place.state = EXPIRED
  put_place(user, place)
end

-- Exact within the front's block of numbers; further back a figure up to a second old, which
-- can only be too high: people ahead only ever become fewer.
local function people_ahead(room, number)
  if undrawn(room) then return room.waiting - 1 end
  local block = math.floor(number / BLOCK)
  local before = 0
  if block > math.floor(room.front / BLOCK) then
    before = redis.call('HGET', key('prefix'), block)
    if not before then return math.max(0, room.waiting - 1) end
  end
  local first = block * BLOCK
  if number == first then return tonumber(before) end
  return before + redis.call('BITCOUNT', key('alive'), first, number - 1, 'BIT')
end

-- Slots -------------------------------------------------------------------------------------

local function get_slot(ticket)
  local raw = redis.call('HGET', key('in'), ticket)
  if not raw then return nil end
  local slot = {}
  slot.written, slot.cause, slot.number, slot.seq, slot.epoch, slot.taken, slot.delivered,
    slot.expires, slot.since = struct.unpack(SLOT, raw)
  slot.user = string.sub(raw, SLOT_BYTES + 1)
  return slot
end

local function put_slot(ticket, slot)
  redis.call('HSET', key('in'), ticket,
    struct.pack(SLOT, slot.written, slot.cause, slot.number, slot.seq, slot.epoch, slot.taken,
      slot.delivered, slot.expires, slot.since) .. slot.user)
end

local function owe(kind, ticket, due) redis.call('ZADD', key('todo'), int(due), kind .. ticket) end
local function paid(kind, ticket) redis.call('ZREM', key('todo'), kind .. ticket) end

-- Answers -----------------------------------------------------------------------------------

-- The ticket as a fan sees it. An admission is delivered here for the first time: its time
-- begins, and MySQL is told of it soon (kind `d`).
local function view(room, user, place, kind)
  local state, ahead, expires = 'waiting', 0, 0
  local room_is = room_state(room)
  if place.state == INSIDE then
    local slot = get_slot(place.ticket)
    if not slot then
      state = 'expired'
    elseif slot.cause ~= 0 or (slot.expires > 0 and slot.expires <= now) then
      state = slot.cause == PURCHASED and 'done' or 'expired'
    elseif slot.written == 1 then
      if slot.delivered == 0 then
        slot.delivered = now
        -- Whole seconds, as the pass says it; the slot lasts exactly as long as the pass.
        slot.expires = math.ceil((now + room.ttl * 1000) / 1000) * 1000
        put_slot(place.ticket, slot)
        owe('d', place.ticket, now)
        owe('e', place.ticket, slot.expires)
      end
      state, expires = 'admitted', slot.expires
    end
  elseif place.state == WAITING then
    ahead = people_ahead(room, place.number)
    if room_is == 'closed' then
      state = 'closed'
    elseif room_is == 'pre_queue' or undrawn(room) then
      state = 'pre_queue'
    end
  else
    state = place.state == DONE and 'done' or 'expired'
  end
  return { kind, int(now), state, room_is, place.ticket, place.number, ahead, room.waiting,
    room.rate or -1, int(room.opens_at or -1), room.grace, room.epoch, int(expires),
    has_room(room), room.per_minute }
end

-- A signed ticket of an earlier epoch stands for a place that the loss of Redis took away. It is
-- good for a while after the loss; a place given up since is lost for good.
local function restore(room, user, place, number, epoch, ticket)
  if epoch >= room.epoch or now > (room.restore_until or 0) or number > (room.restore_to or 0) then
    return nil
  end
  if place and (place.state ~= WAITING or place.ticket == ticket or place.number < number) then
    return nil
  end
  if room.drawn_count and number <= room.drawn_base then
    -- The draw itself is lost: its value still says about where among the drawn this place was.
    local share = draw_of(redis.call('HGET', KEYS[1], 'seed'), ticket) / 2 ^ 52
    number = room.drawn_base + 1 + math.floor(share * room.drawn_count)
  end
  local tries = 0
  while redis.call('GETBIT', key('alive'), number) == 1 do
    number, tries = number + 1, tries + 1
    if tries > 1000 then return nil end
  end
  if place then step_out(room, user, place) end
  local restored = { state = WAITING, number = number, seen = now, since = now, ticket = ticket }
  put_place(user, restored)
  stand_in_line(room, user, restored)
  if room.draw_at and number <= room.draw_at then room.draw_at = number - 1 end
  set_room(room, 'waiting', 'front', 'draw_at')
  return restored
end

-- Stock: `counted:version:seats` a performance; the sum over those that count. No figure while
-- one of them is unknown, so that a lost message cannot make a sale look sold out.
local function count_stock()
  local flat = redis.call('HGETALL', key('stock'))
  local left, counted = 0, 0
  for i = 2, #flat, 2 do
    if string.sub(flat[i], 1, 1) == '1' then
      local seats = tonumber(string.match(flat[i], '^1:%d+:(%d+)$') or -1)
      if seats < 0 then
        left = -1
        break
      end
      left, counted = left + seats, counted + 1
    end
  end
  local any_open = tonumber(redis.call('HGET', KEYS[1], 'any_open') or 0)
  local known = counted > 0 and left >= 0
  redis.call('HSET', KEYS[1], 'seats_left', known and left or '', 'sold_out',
    (known and left == 0 and any_open == 1) and 1 or 0)
end
