-- Gives the number of the last message, if the server can be written.
--
-- A write that changes nothing: what has become a replica refuses it, while it would still answer reads,
-- and removals are told elsewhere now.
redis.call('DEL', ARGV[1] .. 'none')
return tonumber(redis.call('GET', KEYS[2]) or 0)
