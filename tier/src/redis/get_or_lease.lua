-- Looks for keys, and leases those that are absent or stale.
--
-- ARGV[5]  the lease
-- ARGV[6]  its time in milliseconds
-- ARGV[7]  a value with so many milliseconds left, or fewer, is stale
-- ARGV[8]  the bytes of the values that may be answered with
-- ARGV[9]  the bytes of the largest value that there can be
-- ARGV[10] and more: the keys
--
-- For each of the first keys, as far as the bytes last: what there is and whose turn it is, as one number;
-- and if there is a value, this and the milliseconds that it has left. If the bytes do not last for the
-- first, the number of those that it needs.
local LEASE, LEASE_FOR, STALE_BELOW = ARGV[5], ARGV[6], tonumber(ARGV[7])
local MOST, LARGEST, FIRST = tonumber(ARGV[8]), tonumber(ARGV[9]), 10
local ABSENT, VALUE, FOREIGN = 0, 4, 8
local NOBODYS, MINE, ANOTHERS, FULL = 0, 1, 2, 3

-- Whose turn it is to load, or nil and the error.
local function turn(lease)
  local held, mark = holder(lease)
  if held and held ~= LEASE and mark ~= 'c' then
    if mark ~= 'w' then
      -- Where this fails, as on a full server, the caller waits without being told.
      redis.pcall('SET', lease, 'w' .. held, 'KEEPTTL')
    end
    return ANOTHERS
  end
  if mark ~= 'w' then
    mark = '-'
  end
  local reply = redis.pcall('SET', lease, mark .. LEASE, 'PX', LEASE_FOR)
  if not reply.err then
    return MINE
  elseif fails(reply, 'OOM') then
    return FULL
  end
  return nil, reply
end

local answers, bytes = {}, 0
local values, leases = names()
if not values then
  -- No generation, and no memory for one: there are no entries.
  if not fails(leases, 'OOM') then
    return leases
  end
  for i = FIRST, #ARGV do
    answers[#answers + 1] = ABSENT + FULL
  end
  return answers
end

for i = FIRST, #ARGV do
  local key = ARGV[i]
  local value = redis.pcall('GET', values .. key)
  local what, left, whose, failure = ABSENT, 0, NOBODYS, nil
  if type(value) == 'string' and #value > LARGEST then
    what = FOREIGN
  elseif type(value) == 'string' then
    bytes = bytes + #value
    if bytes > MOST then
      return i == FIRST and #value or answers
    end
    what = VALUE
    -- Below zero if it has no end, which nobody gave it here.
    left = math.max(redis.call('PTTL', values .. key), 0)
  elseif fails(value, 'WRONGTYPE') then
    what = FOREIGN
  elseif value then
    return value
  end
  if what ~= VALUE or left == 0 or left <= STALE_BELOW then
    whose, failure = turn(leases .. key)
    if failure then
      return failure
    end
  end
  answers[#answers + 1] = what + whose
  if what == VALUE then
    answers[#answers + 1] = value
    answers[#answers + 1] = left
  end
end
return answers
