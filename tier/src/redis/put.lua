-- Stores values whose leases are still held, and ends these.
--
-- ARGV[5]  the lease
-- ARGV[6]  and more: keys, each followed by its value and the time of this in milliseconds
--
-- For each key: 1 if its value is kept, else 0.
local LEASE = ARGV[5]

local kept, over, full = {}, {}, false
-- Without a generation there is no lease either.
local values, leases = names()
for i = 6, #ARGV, 3 do
  local key, value, ttl = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local done = 0
  local held, mark
  if values then
    held, mark = holder(leases .. key)
  end
  if held == LEASE then
    if ttl == '0' then
      redis.call('DEL', values .. key)
    elseif not full then
      local reply = redis.pcall('SET', values .. key, value, 'PX', ttl)
      if not reply.err then
        done = 1
      elseif fails(reply, 'OOM') then
        -- Others would be let in, as this script deletes a lease now.
        full = true
      else
        return reply
      end
    end
    redis.call('DEL', leases .. key)
    if mark == 'w' then
      over[#over + 1] = spell(key)
    end
  end
  kept[#kept + 1] = done
end
ready(over)
return kept
