-- One place for one user. ARGV: user, new ticket id (16 bytes), then optionally the signed
-- ticket's number, epoch and id.
-- Replay: the caller's own ticket id is found in the place, so the answer is `new` again.
local room = load_room()
if not room then return { 'missing' } end
local user, ticket = ARGV[1], ARGV[2]
local place = get_place(room, user)

if place and place.state == INSIDE then
  settle_number(room, user, place)
  local answer = view(room, user, place, 'same')
  if answer[3] == 'admitted' or answer[3] == 'waiting' then return answer end
  place = nil -- this admission is over; what follows is a new place at the end
end
if room_state(room) == 'closed' then return { 'closed' } end

if place then settle_number(room, user, place) end
if place and place.state == WAITING and stale(room, place) then
  expire_place(room, user, place)
  set_room(room, 'waiting')
end
if ARGV[3] then
  local restored = restore(room, user, place, tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5])
  if restored then return view(room, user, restored, 'same') end
end
if place and place.state == WAITING then
  place.seen = now
  put_place(user, place)
  return view(room, user, place, place.ticket == ticket and 'new' or 'same')
end

-- Numbers are handed out only below a ceiling that MySQL knows, so that none is ever handed out
-- twice, whatever Redis forgets.
if room.last + 1 > room.ceiling then return { 'numbers' } end
room.last = room.last + 1
place = { state = WAITING, number = room.last, seen = now, since = now, ticket = ticket }
put_place(user, place)
stand_in_line(room, user, place)
set_room(room, 'last', 'waiting', 'front')
return view(room, user, place, 'new')
