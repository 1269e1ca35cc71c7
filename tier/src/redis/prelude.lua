-- What all scripts share; it is sent before each of them.
--
-- KEYS[1]  the name of the generation, a random string that is part of the names of all entries
-- KEYS[2]  the name of the number of the last message
-- ARGV[1]  what the names of all entries begin with
-- ARGV[2]  the channel of the messages
-- ARGV[3]  the instance, as sender of messages
-- ARGV[4]  a random string that was never used before
-- ARGV[5]  and more: the script's own

-- Tells whether a reply of redis.pcall is this error. Old servers write more before its name.
local function fails(reply, name)
  return type(reply) == 'table' and reply.err and string.find(reply.err, name, 1, true)
end

-- What the names of values and of leases begin with. Without a generation, be it that the server evicted
-- it, a new one begins: what belongs to another is never seen again. Or nil and the error.
local function names()
  local generation = redis.call('GET', KEYS[1])
  if not generation then
    generation = ARGV[4]
    local reply = redis.pcall('SET', KEYS[1], generation)
    if reply.err then
      return nil, reply
    end
  end
  return ARGV[1] .. generation .. ':v:', ARGV[1] .. generation .. ':l:'
end

-- Who holds a lease, or nil, and a mark: 'w' if somebody waits for it, 'c' if it is a claim, which the next
-- who looks takes over, else '-'.
local function holder(lease)
  local held = redis.pcall('GET', lease)
  if type(held) == 'string' then
    return string.sub(held, 2), string.sub(held, 1, 1)
  end
end

-- A key as messages have it: with its length before it.
local function spell(key)
  return #key .. ':' .. key
end

-- Sends a message that has a number, so that whoever misses it knows. Costs memory, which a server that has
-- none left allows only to a script that has written before: each deletes something first.
local function announce(kind, keys)
  local number = string.format('%.0f', redis.call('INCR', KEYS[2]))
  redis.call('PUBLISH', ARGV[2], number .. kind .. ARGV[3] .. keys)
end

-- Tells those who wait for a lease that it is over. Has no number: whoever misses it waits a little longer.
local function ready(keys)
  if #keys > 0 then
    redis.call('PUBLISH', ARGV[2], '0r' .. ARGV[3] .. table.concat(keys))
  end
end
