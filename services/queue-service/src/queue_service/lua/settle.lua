-- MySQL has it: make it true here. ARGV: triples of kind, ticket, cause.
--   a  the admission's row is written: its owner may have the pass
--   r  the row says this ticket is spent: the slot is given back, the place is over
--   d  the delivery is written
--   e  the end is written: the slot is free
local room = load_room()
if not room then return { 'missing' } end

local function free_slot(ticket, slot, cause)
  redis.call('HDEL', key('in'), ticket)
  paid('a', ticket)
  paid('d', ticket)
  paid('e', ticket)
  local place = get_place(room, slot.user)
  if place and place.ticket == ticket and place.state == INSIDE then
    if cause == LEFT then
      drop_place(slot.user)
    else
      place.state = cause == PURCHASED and DONE or EXPIRED
      put_place(slot.user, place)
    end
  end
end

local freed = 0
for i = 1, #ARGV, 3 do
  local kind, ticket, cause = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local slot = get_slot(ticket)
  if not slot then
    paid(kind, ticket)
  elseif kind == 'a' then
    paid('a', ticket)
    if slot.written ~= 1 then
      slot.written = 1
      put_slot(ticket, slot)
      if slot.cause == 0 then owe('e', ticket, now + room.grace * 1000) end
    end
  elseif kind == 'd' then
    paid('d', ticket)
  else
    free_slot(ticket, slot, kind == 'e' and cause or LAPSED)
    freed = freed + 1
  end
end
return { 'settled', freed, has_room(room) }
