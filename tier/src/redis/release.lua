-- Gives up leases, as far as they are still held.
--
-- ARGV[5]  the lease
-- ARGV[6]  and more: the keys
local over = {}
local values, leases = names()
for i = 6, values and #ARGV or 0 do
  local lease = leases .. ARGV[i]
  local held, mark = holder(lease)
  if held == ARGV[5] then
    redis.call('DEL', lease)
    if mark == 'w' then
      over[#over + 1] = spell(ARGV[i])
    end
  end
end
ready(over)
return 1
