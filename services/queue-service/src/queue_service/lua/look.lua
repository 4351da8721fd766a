-- The room as anyone may see it.
local room = load_room()
if not room then return { 'missing' } end
local state = room_state(room)
if state == 'open' and undrawn(room) then state = 'pre_queue' end
return { 'seen', int(now), state, room.serving or 0, room.waiting, room.rate or -1,
  room.seats_left or -1, redis.call('HLEN', key('in')), room.version, room.epoch,
  int(room.opens_at or -1), room.last }
