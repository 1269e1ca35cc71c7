-- Removes all entries and leases, by ending the generation: nobody asks for their names again, and the
-- server drops them when their time is over. Whoever comes next begins a new generation.
redis.call('DEL', KEYS[1])
announce('a', '')
return 1
