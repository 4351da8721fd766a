-- Give the place up. ARGV: user, lease in ms. A slot is not freed here: MySQL has to know first. The
-- caller ends it; the debt (`e`) is for whoever takes a turn after the caller died.
local room = load_room()
if not room then return { 'missing' } end
local user = ARGV[1]
local place = get_place(room, user)
if not place then return { 'none' } end
if place.state == WAITING then
  settle_number(room, user, place)
  step_out(room, user, place)
  set_room(room, 'waiting')
  drop_place(user)
  return { 'left' }
end
local slot = place.state == INSIDE and get_slot(place.ticket)
if not slot then
  drop_place(user)
  return { 'left' }
end
if slot.cause == 0 then
  slot.cause = LEFT
  put_slot(place.ticket, slot)
end
-- The place stays until the slot is free, so that a repeated call finds what is still to be done.
-- An end is not written before its beginning: then a turn sees to it, not the caller.
owe('e', place.ticket, slot.written == 1 and now + tonumber(ARGV[2]) or now)
return { slot.written == 1 and 'inside' or 'entering', place.ticket }
