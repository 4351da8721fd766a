-- The epoch of a room that is complete and whose server has not restarted since; 0: it is not.
local room = load_room()
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if not room or room.run_id ~= run_id then return 0 end
return room.epoch
