-- The board: small values that all nodes share, each with a version. KEYS[1]
-- is a hash of values, KEYS[2] the keys by version, KEYS[3] the keys by the
-- time in ms when they expire. The version of the whole board is the greatest
-- of all that were given, kept in the hash under the empty key.
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function version() return tonumber(call('HGET', KEYS[1], '') or 0) end

local function set(key, value, v, ttl)
  call('HSET', KEYS[1], key, value)
  call('ZADD', KEYS[2], v, key)
  call('ZADD', KEYS[3], now + ttl, key)
  if v > version() then call('HSET', KEYS[1], '', v) end
end

local op = {}

-- put writes values under the next version. A value goes only where the
-- version that stands there is not greater than the one its writer has seen.
function op.put()
  local out = {}
  for i = 2, #ARGV, 4 do
    local key, value, seen, ttl = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    local stands = tonumber(call('ZSCORE', KEYS[2], key) or 0)
    if seen < 0 or stands <= seen then
      stands = version() + 1
      set(key, value, stands, ttl)
      out[#out + 1] = stands
    else
      out[#out + 1] = -stands
    end
  end
  call('PUBLISH', KEYS[1], version())
  return out
end

-- restore brings back what a server has lost: key, value, version, ttl.
function op.restore()
  for i = 2, #ARGV, 4 do
    local v = tonumber(ARGV[i + 2])
    if v > tonumber(call('ZSCORE', KEYS[2], ARGV[i]) or 0) then
      set(ARGV[i], ARGV[i + 1], v, tonumber(ARGV[i + 3]))
    end
  end
  call('PUBLISH', KEYS[1], version())
  return {version()}
end

-- since lists what changed after a version: the version of the board, then
-- key, value, version and ms to live of each, the oldest change first.
function op.since()
  local gone = call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 100)
  for _, key in ipairs(gone) do
    call('HDEL', KEYS[1], key)
    call('ZREM', KEYS[2], key)
    call('ZREM', KEYS[3], key)
  end
  local out = {version()}
  local changed = call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
  for i = 1, #changed, 2 do
    out[#out + 1] = changed[i]
    out[#out + 1] = call('HGET', KEYS[1], changed[i]) or ''
    out[#out + 1] = tonumber(changed[i + 1])
    out[#out + 1] = math.max(0, tonumber(call('ZSCORE', KEYS[3], changed[i]) or 0) - now)
  end
  return out
end

-- beat is a node's sign of life: KEYS[1] has the nodes, KEYS[2] those that have
-- told the server ARGV[4] all they know; ARGV[5] says that this one has.
-- Returns how many have, then name, value and age of each node.
function op.beat()
  call('HSET', KEYS[1], ARGV[2], now .. ' ' .. ARGV[3])
  call('PEXPIRE', KEYS[1], 86400000)
  if ARGV[5] == '1' then
    if call('HGET', KEYS[2], '') ~= ARGV[4] then call('DEL', KEYS[2]) end
    call('HSET', KEYS[2], '', ARGV[4], 'n' .. ARGV[2], '1')
    call('PEXPIRE', KEYS[2], 86400000)
  end
  local out = {0}
  if call('HGET', KEYS[2], '') == ARGV[4] then out[1] = call('HLEN', KEYS[2]) - 1 end
  local all = call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local at, value = all[i + 1]:match('(%d+) (.*)')
    if now - at > 86400000 then
      call('HDEL', KEYS[1], all[i])
    else
      out[#out + 1] = all[i]
      out[#out + 1] = value
      out[#out + 1] = now - at
    end
  end
  return out
end

return op[ARGV[1]]()
