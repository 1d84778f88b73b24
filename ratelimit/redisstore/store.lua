-- All that the store asks of Redis. ARGV[1] names the operation; the Go side
-- of each is in scripts.go.
--
-- A slot is a domain with its mailboxes, or an account: what lives under one
-- hash tag. Its root is the key sluice:{slot}, which holds the slot's clock
-- and how its send records are laid out, and the counts of the subject that is
-- named like the slot. Other subjects have keys of their own under that tag.
-- Send records are in hashes: field is the token, 8 bytes, and value
-- 16*(milliseconds since its generation began) + outcome, + 8 where the subject
-- that is named like the slot is not charged, then :attempt where
-- an earlier attempt was given up; or -attempt for a send that must not be
-- charged by that attempt or an earlier one.
--
-- The script is run anew for every call, so what it defines costs time: functions
-- are fields of one table, for each local of another function that a function
-- uses is searched for when it is made, and those of other operations are not
-- made at all.

local S = {
  states = {},   -- the subjects and roots of this call, by key
  roots = {},    -- the roots, in the order of KEYS
  subjects = {}, -- the subjects, in the order asked: state, limits
  at = 0,        -- the time of the call, Unix milliseconds
  argn = 1,
}
local op = ARGV[1]

function S.num()
  S.argn = S.argn + 1
  return tonumber(ARGV[S.argn])
end

function S.text()
  S.argn = S.argn + 1
  return ARGV[S.argn]
end

-- Subjects. A subject's string is its head (time of writing, epoch, period of
-- the send records, how many of them are of this generation and of the one
-- before, refused sends), and for each window a ring: its length in ms, since
-- when it is complete, number of buckets, sends in all of them, then the
-- buckets, 21 bytes each, the oldest first: index modulo 256, sent, delivered,
-- deferred, failed, excused.

function S.load(key)
  local s = S.states[key]
  if s then return s end
  s = {key = key, rings = {}, last = 0, epoch = 0, period = 0, n0 = 0, n1 = 0, marks = 0}
  S.states[key] = s
  local v = redis.call('GET', key)
  if not v then return s end
  local unpack, p, ms, since, n, sent = struct.unpack
  s.last, s.epoch, s.period, s.n0, s.n1, s.marks, p = unpack('<ddI4I4I4I2', v)
  while p <= #v do
    ms, since, n, sent, p = unpack('<I4dBI4', v, p)
    s.rings[#s.rings + 1] = S.ring(ms, since, sent, v:sub(p, p + 21 * n - 1))
    p = p + 21 * n
  end
  return s
end

function S.ring(ms, since, sent, raw)
  local us = ms * 1000 + 59
  return {ms = ms, since = since, sent = sent, raw = raw, bucket = (us - us % 60) / 60}
end

-- index is the bucket into which a time falls, oldest the first that still counts then.
function S.index(r, ms) return math.floor(ms * 1000 / r.bucket) end
function S.oldest(r, ms) return math.floor((ms - r.ms) * 1000 / r.bucket) end

-- prune drops the buckets that no longer count at a time.
function S.prune(s, at)
  for i = 1, #s.rings do
    local r = s.rings[i]
    local raw, p = r.raw, 1
    local top, low = S.index(r, s.last), S.oldest(r, at)
    while p < #raw do
      local b = raw:byte(p)
      if top - (top - b) % 256 >= low then break end
      r.sent = r.sent - struct.unpack('<I4', raw, p + 1)
      p = p + 21
    end
    if p > 1 then r.raw = raw:sub(p) end
  end
  s.last = at
end

function S.find(s, ms)
  for i = 1, #s.rings do
    if s.rings[i].ms == ms then return s.rings[i] end
  end
end

-- count adds to the counts of a subject where a send dated when is counted.
function S.count(s, when, d)
  if when <= s.epoch then return end
  for i = 1, #s.rings do
    local r = s.rings[i]
    local b = S.index(r, when)
    if when >= r.since and b >= S.oldest(r, s.last) then
      local raw, top = r.raw, S.index(r, s.last)
      local p = #raw - 20 -- of the newest bucket that is not newer than b
      while p > 0 and top - (top - raw:byte(p)) % 256 > b do p = p - 21 end
      local c1, c2, c3, c4, c5, rest = 0, 0, 0, 0, 0, p + 21
      if p > 0 and raw:byte(p) == b % 256 then
        c1, c2, c3, c4, c5 = struct.unpack('<I4I4I4I4I4', raw, p + 1)
      else
        p = p + 21
      end
      local max = math.max
      r.sent = max(0, r.sent + d[1])
      r.raw = raw:sub(1, p - 1) .. struct.pack('<BI4I4I4I4I4', b % 256, max(0, c1 + d[1]), max(0, c2 + d[2]),
        max(0, c3 + d[3]), max(0, c4 + d[4]), max(0, c5 + d[5])) .. raw:sub(rest)
    end
  end
end

function S.save(s)
  local out, ttl = struct.pack('<ddI4I4I4I2', s.last, s.epoch, s.period, s.n0, s.n1, s.marks), 2 * s.period
  for i = 1, #s.rings do
    local r = s.rings[i]
    out = out .. struct.pack('<I4dBI4', r.ms, r.since, #r.raw / 21, r.sent) .. r.raw
    ttl = math.max(ttl, r.ms + r.ms / 60)
  end
  redis.call('SET', s.key, out, 'PX', ('%d'):format(ttl + 600000))
end

-- delta adds to d what n sends with an outcome, of which sent are new, add to counts.
function S.delta(d, sent, outcome, n)
  d[1] = d[1] + sent
  local kind = outcome % 4
  if kind > 0 then d[kind + 1] = d[kind + 1] + n end
  if outcome >= 4 then d[5] = d[5] + n end
  return d
end

-- Send records. A generation is a period of dates, as long as sends are kept,
-- so that two of them hold all. Its records are in hashes that are split one
-- after the other as it grows (linear hashing), when there are 150 for each on
-- average, so that some are twice as long: a short hash takes 16 bytes a record.

function S.shardkey(root, gen, shard) return ('%s#%d.%d'):format(root.key, gen, shard) end

-- place is the key of the hash for a token, among n records of a generation.
function S.place(root, gen, n, token)
  local shards = 1 + math.floor(n / 150)
  if shards == 1 then return S.shardkey(root, gen, 0) end
  local half = 1
  while half * 2 <= shards do half = half * 2 end
  local i = struct.unpack('<I4', token) % (2 * half)
  if i >= shards then i = i - half end
  return S.shardkey(root, gen, i)
end

function S.expire(root, gen, key)
  redis.call('PEXPIRE', key, ('%d'):format((gen + 2) * root.period - root.last + 600000)) -- a number is written slowly
end

-- split moves half of a hash into the new one, whose number is shard.
function S.split(root, gen, shard)
  local half = 1
  while half * 2 <= shard do half = half * 2 end
  local from, to = S.shardkey(root, gen, shard - half), S.shardkey(root, gen, shard)
  local all, gone, moved = redis.call('HGETALL', from), {}, {}
  for j = 1, #all, 2 do
    if struct.unpack('<I4', all[j]) % (2 * half) == shard then
      gone[#gone + 1] = all[j]
      moved[#moved + 1] = all[j]
      moved[#moved + 1] = all[j + 1]
    end
  end
  if #gone > 0 then
    redis.call('HSET', to, unpack(moved))
    redis.call('HDEL', from, unpack(gone))
    S.expire(root, gen, to)
  end
end

-- touch fails where n more records could not be kept in a generation that has some: while
-- a Cluster moves the slot, no script may use a key that is not there, and what a script has
-- written before it fails stays written. The other hashes were read by record.
function S.touch(root, gen, have, n)
  for shard = have > 0 and math.floor(have / 150) + 1 or 0, math.floor((have + n) / 150) do
    redis.call('EXISTS', S.shardkey(root, gen, shard))
  end
end

-- record looks a token up: the record, and the hash in which it is.
function S.record(root, token)
  local gen, n = math.floor(root.last / root.period), root.n0
  for back = 0, 1 do
    if n > 0 then
      local key = S.place(root, gen - back, n, token)
      local v = redis.call('HGET', key, token)
      if v then
        local stamp = v:match(':(.*)')
        v = tonumber(stamp and v:match('[^:]*') or v)
        if v < 0 then return {key = key, dead = -v} end
        return {key = key, date = (gen - back) * root.period + math.floor(v / 16), outcome = v % 8,
          others = v % 16 - v % 8, stamp = tonumber(stamp)}
      end
    end
    n = root.n1
  end
end

-- put writes a record; old is the one that was found for the token.
function S.put(root, token, date, value, old)
  local gen, now = math.floor(date / root.period), math.floor(root.last / root.period)
  local n = gen == now and root.n0 or root.n1
  local key = S.place(root, gen, n, token)
  redis.call('HSET', key, token, value)
  if old and old.key == key then return end
  if old then redis.call('HDEL', old.key, token) end
  S.expire(root, gen, key)
  n = n + 1
  if gen == now then root.n0 = n else root.n1 = n end
  if n % 150 == 0 then S.split(root, gen, n / 150) end
end

function S.keep(root, token, date, outcome, old, stamp)
  local value = ('%d'):format(date % root.period * 16 + outcome)
  if stamp then value = ('%s:%d'):format(value, stamp) end
  S.put(root, token, date, value, old)
end

-- roll forgets the generations that are over at a time.
function S.roll(root, at)
  if root.period == 0 then return end
  local passed = math.floor(at / root.period) - math.floor(root.last / root.period)
  if passed == 1 then root.n0, root.n1 = 0, root.n0 elseif passed > 1 then root.n0, root.n1 = 0, 0 end
end

-- lengthen lays the records out anew where sends are to be kept for longer.
function S.lengthen(root, period)
  local old, all, keys = root.period, {}, {}
  local gen, n = math.floor(root.last / math.max(1, old)), root.n0
  for _ = 0, 1 do
    for shard = 0, n > 0 and math.floor(n / 150) or -1 do
      local key = S.shardkey(root, gen, shard)
      local fields = redis.call('HGETALL', key)
      keys[#keys + 1] = key
      for j = 1, #fields, 2 do
        local v, stamp = fields[j + 1]:match('([^:]*):?(.*)')
        all[#all + 1] = {fields[j], tonumber(v), gen * old, tonumber(stamp)}
      end
    end
    gen, n = gen - 1, root.n1
  end
  gen = math.floor(root.last / period)
  for back = 0, #all > 0 and 1 or -1 do S.touch(root, gen - back, 0, #all) end
  for i = 1, #keys do redis.call('DEL', keys[i]) end
  root.period, root.n0, root.n1 = period, 0, 0
  for _, x in ipairs(all) do
    local date = x[3] + math.floor(x[2] / 16)
    if x[2] < 0 then
      S.put(root, x[1], root.last, ('%d'):format(x[2]))
    elseif date > root.last - period then
      S.keep(root, x[1], date, x[2] % 16, nil, x[4])
    end
  end
  if #all > 0 then S.save(root) end
end

-- open reads the time, the slots and the subjects with the limits that are
-- asked for, and returns how long sends are kept. The time of a slot never
-- goes back.
function S.open()
  local at = S.num()
  if not at then
    local t = redis.call('TIME')
    at = t[1] * 1000 + math.floor(t[2] / 1000)
  end
  local period, nroots = S.num(), S.num()
  for i = 1, nroots do
    local root = S.load(KEYS[i])
    S.roots[i], root.root = root, root
    at = math.max(at, root.last)
  end
  for i = 1, S.num() do
    local s = S.load(KEYS[nroots + i])
    local limits = {}
    s.root = S.roots[S.num()]
    local flags = S.num()
    s.past = flags > 1 -- the sends are of before a reset
    for j = 1, S.num() do limits[j] = {ms = S.num(), max = S.num(), withheld = S.num()} end
    S.subjects[i] = {state = s, limits = limits, watched = flags % 2 > 0}
  end
  S.setclock(at)
  for i = 1, nroots do
    if S.roots[i].period < period then S.lengthen(S.roots[i], period) end
  end
  return period
end

function S.setclock(at)
  for i = 1, #S.roots do S.roll(S.roots[i], at) end
  for _, s in pairs(S.states) do S.prune(s, at) end
  S.at = at
end

function S.saveall()
  for _, s in pairs(S.states) do
    s.period = s.root.period
    S.save(s)
  end
end
