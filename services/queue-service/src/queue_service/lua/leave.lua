-- Give the place up. ARGV: user. A slot is not freed here: MySQL has to know first, so its end is
-- only owed (`e`), and whoever takes the next turn sees to it.
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
drop_place(user)
if place.state == INSIDE then
  local slot = get_slot(place.ticket)
  if slot then
    if slot.cause == 0 then
      slot.cause = LEFT
      put_slot(place.ticket, slot)
    end
    owe('e', place.ticket, now)
    return { 'inside' }
  end
end
return { 'left' }
