-- One turn of the room: open it when its time has come, admit whom both limits let in, and hand
-- the caller what is owed to MySQL. Any process may take one at any time; none leads.
--
-- ARGV: lease in ms, most admissions and debts, most places looked at, blindness in ms.
--
-- What is owed stays in `todo` until settle.lua says it is written. Handing a debt out only moves
-- its time: if the caller dies, somebody claims it again after the lease.
--   a<ticket>  an admission to insert            (the slot counts as taken already)
--   d<ticket>  when it was delivered, to update
--   e<ticket>  an end to write, before the slot is freed
local room = load_room()
if not room then return { 'missing' } end
-- A server that restarted may have lost its last moments. Nobody enters until the room has been
-- held against MySQL (rebuild.lua), whatever process noticed it or not.
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if run_id ~= room.run_id then return { 'restarted', room.epoch } end

local lease, limit, scan, blind = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local more, short_of_numbers, items, named = 0, 0, {}, {}

if now - (room.turned_at or now) > blind then room.seen_floor = now end
room.turned_at = now

local function hand_out(kind, ticket, slot)
  owe(kind, ticket, now + lease)
  named[kind .. ticket] = true
  items[#items + 1] = { kind, ticket, slot.user, slot.number, slot.seq, int(slot.since),
    int(slot.delivered), int(slot.expires), slot.cause,
    slot.written == 2 and 'passthrough' or 'open' }
end

local function owner_of(number)
  local user = user_of(room, number)
  local place = user and get_place(room, user)
  if place then settle_number(room, user, place) end
  if place and place.state == WAITING and place.number == number then return user, place end
  -- A bit without a place behind it: nobody waits there.
  redis.call('SETBIT', key('alive'), number, 0)
  room.waiting = room.waiting - 1
  return nil
end

local function next_waiting(from) return redis.call('BITPOS', key('alive'), 1, from, -1, 'BIT') end

-- Shuffle: every place draws; at the opening the draws become numbers, all at once. ------------
local function draw_more()
  local seed, to, count = redis.call('HGET', KEYS[1], 'seed'), room.frozen or room.last, 0
  local at = room.draw_at or 0
  while at < to and count < scan do
    local number = next_waiting(at + 1)
    if number < 0 or number > to then
      at = to
    else
      local user, place = owner_of(number)
      if user then redis.call('ZADD', key('draw'), int(draw_of(seed, place.ticket)), user) end
      at, count = number, count + 1
    end
  end
  room.draw_at = at
  return at >= to
end

-- Who comes from now on gets a number behind the range that is kept for the draw.
local function freeze()
  local base = math.ceil((room.last + 1) / 8) * 8 - 1
  if base + room.waiting > room.ceiling then
    short_of_numbers = 1
    return false
  end
  room.frozen, room.drawn_base, room.drawn_count = room.last, base, room.waiting
  room.last = base + room.waiting
  return true
end

local function fill_line_by_draw()
  local first, count = room.drawn_base + 1, redis.call('ZCARD', key('draw'))
  redis.call('SETRANGE', key('alive'), 0, string.rep('\0', first / 8))
  redis.call('SETRANGE', key('alive'), first / 8, string.rep('\255', math.floor(count / 8)))
  for number = first + math.floor(count / 8) * 8, first + count - 1 do
    redis.call('SETBIT', key('alive'), number, 1)
  end
  room.front, room.cleared = first, 0
end

local function open_room()
  if room.shuffle == 1 and (room.frozen or room.waiting > 0) then
    if not room.frozen and not freeze() then return end
    if not draw_more() then
      more = 1
      return
    end
    fill_line_by_draw()
  else
    redis.call('DEL', key('draw'))
  end
  room.opened = 1
end

local state = room_state(room)
if room.opened ~= 1 then
  if state == 'pre_queue' then
    if room.shuffle == 1 then draw_more() end
  elseif state ~= 'closed' then
    open_room()
  end
end

-- Admissions, in the order of numbers. Who stopped polling is passed over and costs no slot. ---
local function admit(user, place)
  room.seq = room.seq + 1
  step_out(room, user, place)
  place.state = INSIDE
  put_place(user, place)
  local slot = { written = room.mode == 'passthrough' and 2 or 0, cause = 0,
    number = place.number, seq = room.seq, epoch = room.epoch, taken = now, delivered = 0,
    expires = 0, since = place.since, user = user }
  put_slot(place.ticket, slot)
  hand_out('a', place.ticket, slot)
  room.serving = math.max(room.serving or 0, place.number)
end

local admitted = 0
if room.opened == 1 and admitting(room) then
  local free, looked = math.min(slots_free(room), limit), 0
  while admitted < free do
    local number = next_waiting(room.front)
    if number < 0 then break end
    if looked >= scan then
      more = 1
      break
    end
    looked = looked + 1
    local user, place = owner_of(number)
    if user and stale(room, place) then
      expire_place(room, user, place)
    elseif user then
      admit(user, place)
      admitted = admitted + 1
    end
    room.front = number + 1
  end
  if admitted > 0 and room.mode ~= 'passthrough' then spend(room, admitted) end
  if admitted == limit then more = 1 end
end

-- The measured rate: admissions of the last minute, by five-second spans. ----------------------
local function measure()
  local span = math.floor(now / SPAN_MS)
  if admitted > 0 then
    redis.call('HINCRBY', key('rate'), span, admitted)
    room.rated_from = room.rated_from or now
  end
  local flat, sum = redis.call('HGETALL', key('rate')), 0
  for i = 1, #flat, 2 do
    if tonumber(flat[i]) <= span - SPANS then
      redis.call('HDEL', key('rate'), flat[i])
    else
      sum = sum + tonumber(flat[i + 1])
    end
  end
  local seen_for = math.min(now - (room.rated_from or now), SPANS * SPAN_MS)
  if sum == 0 then
    room.rate, room.rated_from = false, false
  elseif seen_for >= SPAN_MS then
    room.rate = math.floor(sum * 60000 / seen_for)
  end
end
measure()

-- How many wait before each block of numbers, for people_ahead far from the front. -------------
local function count_blocks()
  if now - (room.counted_at or 0) < 1000 then return end
  room.counted_at = now
  redis.call('DEL', key('prefix'))
  local first, last = math.floor(room.front / BLOCK), math.floor(room.last / BLOCK)
  local before = 0
  for block = first, last - 1 do
    before = before
      + redis.call('BITCOUNT', key('alive'), block * BLOCK, block * BLOCK + BLOCK - 1, 'BIT')
    redis.call('HSET', key('prefix'), block + 1, before)
  end
end
count_blocks()

-- A slow walk along the line, so that its length does not count those who went away. -----------
local function sweep()
  local at = math.max(room.swept or 0, room.front)
  for _ = 1, math.min(scan, 50) do
    local number = room.waiting > 0 and next_waiting(at) or -1
    if number < 0 then
      at = 0
      break
    end
    local user, place = owner_of(number)
    if user and stale(room, place) then expire_place(room, user, place) end
    at = number + 1
  end
  room.swept = at
end
sweep()

-- The numbers people had before the draw lead nowhere any more.
local function clear_undrawn()
  if room.opened ~= 1 or not room.drawn_count or not room.cleared then return end
  local last = math.floor(room.drawn_base / CHUNK)
  for chunk = room.cleared, math.min(room.cleared + 200, last - 1) do
    redis.call('UNLINK', key('n:' .. chunk))
  end
  room.cleared = room.cleared + 201
  if room.cleared >= last then room.cleared = false end
end
clear_undrawn()

-- What is owed -----------------------------------------------------------------------------------
local function claim_end(ticket, slot)
  if slot.written ~= 1 and redis.call('ZSCORE', key('todo'), 'a' .. ticket) then
    -- The row has to exist before it can end.
    owe('e', ticket, now + 200)
  elseif slot.cause == 0 and slot.delivered == 0 and room.over ~= 1
      and (room.seen_floor or 0) + room.grace * 1000 > now then
    -- We were blind: its owner could not have collected it.
    owe('e', ticket, room.seen_floor + room.grace * 1000)
  else
    if slot.cause == 0 then
      slot.cause = room.over == 1 and CLOSED or (slot.delivered > 0 and LAPSED or UNCOLLECTED)
      put_slot(ticket, slot)
    end
    hand_out('e', ticket, slot)
  end
end

local function claim(member)
  local kind, ticket = string.sub(member, 1, 1), string.sub(member, 2)
  if named[member] then return end
  local slot = get_slot(ticket)
  if not slot or (kind == 'a' and slot.written == 1) then
    redis.call('ZREM', key('todo'), member)
  elseif kind == 'e' then
    claim_end(ticket, slot)
  else
    hand_out(kind, ticket, slot)
  end
end

for _, member in ipairs(redis.call('ZRANGEBYSCORE', key('todo'), '-inf', int(now), 'LIMIT', 0, limit)) do
  claim(member)
end
if room.over == 1 then
  -- The sale is over for good: nobody inside has anything left to do.
  local ends = redis.call('ZRANGEBYSCORE', key('todo'), '(' .. int(now + lease), '+inf', 'LIMIT', 0, limit)
  for _, member in ipairs(ends) do
    if string.sub(member, 1, 1) == 'e' then claim(member) end
  end
end
if #items >= limit then more = 1 end

set_room(room, 'turned_at', 'seen_floor', 'opened', 'frozen', 'drawn_base', 'drawn_count', 'last',
  'front', 'waiting', 'tat', 'serving', 'seq', 'rate', 'rated_from', 'draw_at', 'swept',
  'cleared', 'counted_at')
return { 'turned', int(now), room.epoch, room.version or 0, room.ceiling - room.last, more,
  short_of_numbers, room.opened or 0, room.drawn_base or -1, room.drawn_count or -1,
  room.waiting, redis.call('HLEN', key('in')), items }
