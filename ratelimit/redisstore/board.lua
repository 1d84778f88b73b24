-- The board: small values that all nodes share. KEYS[1] is a hash, "STAMP VALUE"
-- by key, an empty value for what was removed; KEYS[2] the keys by the number of
-- their last change on this server; KEYS[3] the keys that expire by the time in
-- ms when they do. The stamp of a value is the number of the change that made
-- it, on whatever server that was: by it, values of before a failover find out
-- which is newer. The number of the last change is under the empty key.
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function last()
  local n = tonumber(call('HGET', KEYS[1], '') or 0)
  if n then return n end
  local top = call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES') -- it cannot be read
  return tonumber(top[2] or 0)
end

-- read returns the stamp of a value and the value; stamp 0 where there is none, and -1
-- where somebody else has written something that cannot be read.
local function read(key)
  local v = call('HGET', KEYS[1], key)
  if not v then return 0, '' end
  local stamp, value = v:match('^(%d+) (.*)$')
  if not stamp then return -1, '' end
  return tonumber(stamp), value
end

-- write changes a value; ttl is how long it lives, in ms, or less than 0 the server's
-- time when it ends; 0 is forever.
local function write(key, value, stamp, ttl)
  local n = math.max(last() + 1, stamp or 0)
  call('HSET', KEYS[1], key, ('%d %s'):format(stamp or n, value), '', n)
  call('ZADD', KEYS[2], n, key)
  if ttl == 0 then call('ZREM', KEYS[3], key) else call('ZADD', KEYS[3], ttl < 0 and -ttl or now + ttl, key) end
  return n
end

-- tell need not succeed: who hears nothing, or may not be told, looks twice a second.
local function tell() redis.pcall('PUBLISH', KEYS[1], last()) end

local op = {}

-- time is the server's, in ms.
function op.time() return {now} end

-- put writes values whatever stands there: key, value, ttl.
function op.put()
  for i = 2, #ARGV, 3 do write(ARGV[i], ARGV[i + 1], nil, tonumber(ARGV[i + 2])) end
  tell()
  return {last()}
end

-- post writes a value where none stands, and returns what does then, and its stamp.
function op.post()
  local stamp, stands = read(ARGV[2])
  if stands == '' then
    stamp, stands = write(ARGV[2], ARGV[3], nil, 0), ARGV[3]
    tell()
  end
  return {stamp, stands}
end

-- restore brings back what a server has lost: key, value, stamp, ttl.
function op.restore()
  for i = 2, #ARGV, 4 do
    local stamp = tonumber(ARGV[i + 2])
    if stamp > read(ARGV[i]) then write(ARGV[i], ARGV[i + 1], stamp, tonumber(ARGV[i + 3])) end
  end
  tell()
  return {last()}
end

-- since lists what changed after a number: the number of the last change, then
-- key, value, number, stamp and ms to live (0: forever) of each, the oldest first. The
-- stamp of a value that cannot be read is -1.
function op.since()
  local gone = call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 100)
  for _, key in ipairs(gone) do
    call('HDEL', KEYS[1], key)
    call('ZREM', KEYS[2], key)
    call('ZREM', KEYS[3], key)
  end
  local out = {last()}
  local changed = call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
  for i = 1, #changed, 2 do
    local stamp, value = read(changed[i])
    local till = call('ZSCORE', KEYS[3], changed[i])
    out[#out + 1] = changed[i]
    out[#out + 1] = value
    out[#out + 1] = tonumber(changed[i + 1])
    out[#out + 1] = stamp
    out[#out + 1] = till and math.max(1, till - now) or 0
  end
  return out
end

-- beat is a node's sign of life: KEYS[1] has the nodes, KEYS[2] those that have
-- told the server ARGV[4] all they know; ARGV[5] says that this one has.
-- Returns the value that stood under its name, then name, value and age of each node, and
-- 1 if it has told the server.
function op.beat()
  local before = call('HGET', KEYS[1], ARGV[2])
  call('HSET', KEYS[1], ARGV[2], now .. ' ' .. ARGV[3])
  call('PEXPIRE', KEYS[1], 86400000)
  if ARGV[5] == '1' then
    if call('HGET', KEYS[2], '') ~= ARGV[4] then call('DEL', KEYS[2]) end
    call('HSET', KEYS[2], '', ARGV[4], 'n' .. ARGV[2], '1')
    call('PEXPIRE', KEYS[2], 86400000)
  end
  local ours = call('HGET', KEYS[2], '') == ARGV[4]
  local out, all = {before and before:match('%d+ (.*)') or ''}, call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local at, value = all[i + 1]:match('(%d+) (.*)')
    if not at or now - at > 86400000 then
      call('HDEL', KEYS[1], all[i])
    else
      out[#out + 1] = all[i]
      out[#out + 1] = value
      out[#out + 1] = now - at
      out[#out + 1] = ours and call('HEXISTS', KEYS[2], 'n' .. all[i]) or 0
    end
  end
  return out
end

return op[ARGV[1]]()
