-- A heartbeat and a look. ARGV: user, then optionally the signed ticket's number, epoch and id.
-- Its cost does not depend on the length of the line.
local room = load_room()
if not room then return { 'missing' } end
local user = ARGV[1]
local place = get_place(room, user)
if ARGV[2] and not (place and place.ticket == ARGV[4]) then
  local restored = restore(room, user, place, tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4])
  if restored then return view(room, user, restored, 'same') end
end
if not place then return { 'none' } end
if place.state == WAITING then
  settle_number(room, user, place)
  if stale(room, place) then
    expire_place(room, user, place)
    set_room(room, 'waiting')
  else
    place.seen = now
    put_place(user, place)
  end
end
return view(room, user, place, 'same')
