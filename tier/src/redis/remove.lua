-- Removes values and leases, and tells; and may claim the keys for whoever writes them.
--
-- ARGV[5]  the claim, or nothing
-- ARGV[6]  its time in milliseconds
-- ARGV[7]  and more: the keys
local CLAIM, CLAIM_FOR = ARGV[5], ARGV[6]

local gone = {}
local values, leases = names()
for i = 7, #ARGV do
  local key = ARGV[i]
  if values then
    redis.call('DEL', values .. key, leases .. key)
    if CLAIM ~= '' then
      redis.call('SET', leases .. key, 'c' .. CLAIM, 'PX', CLAIM_FOR)
    end
    if CLAIM ~= '' then
      redis.call('SET', leases .. key, 'c' .. CLAIM, 'PX', CLAIM_FOR)
    end
  end
  gone[#gone + 1] = spell(key)
end
if not values then
  -- There is none; but see announce.
  redis.call('DEL', KEYS[1])
end
announce('g', table.concat(gone))
return 1
