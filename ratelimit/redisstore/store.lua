-- All that the store asks of Redis. ARGV[1] names the operation; the Go side
-- of each is in scripts.go.
--
-- A slot is a domain with its mailboxes, or an account: what lives under one
-- hash tag. Its root is the key sluice:{slot}, which holds the slot's clock
-- and how its send records are laid out, and the counts of the subject that is
-- named like the slot. Other subjects have keys of their own under that tag.
-- Send records are in hashes: field is the token, 8 bytes, and value
-- 16*(milliseconds since its generation began) + outcome, then :attempt where
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
    redis.call('HDEL', from, unpack(gone))
    redis.call('HSET', to, unpack(moved))
    S.expire(root, gen, to)
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
        return {key = key, date = (gen - back) * root.period + math.floor(v / 16), outcome = v % 16, stamp = tonumber(stamp)}
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
  local old, all = root.period, {}
  local gen, n = math.floor(root.last / math.max(1, old)), root.n0
  for _ = 0, 1 do
    for shard = 0, n > 0 and math.floor(n / 150) or -1 do
      local key = S.shardkey(root, gen, shard)
      local fields = redis.call('HGETALL', key)
      for j = 1, #fields, 2 do
        local v, stamp = fields[j + 1]:match('([^:]*):?(.*)')
        all[#all + 1] = {fields[j], tonumber(v), gen * old, tonumber(stamp)}
      end
      redis.call('DEL', key)
    end
    gen, n = gen - 1, root.n1
  end
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
    local watched = S.num() > 0
    for j = 1, S.num() do limits[j] = {ms = S.num(), max = S.num()} end
    S.subjects[i] = {state = s, limits = limits, watched = watched}
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

if op == 'take' or op == 'look' then
  -- frees is when a pruned ring holds at most room sends.
  function S.frees(s, r, room)
    local raw, top, left = r.raw, S.index(r, s.last), 0
    for p = #raw - 20, 1, -21 do
      left = left + struct.unpack('<I4', raw, p + 1)
      if left > room then
        local b = top - (top - raw:byte(p)) % 256
        return math.floor(((b + 1) * r.bucket + r.ms * 1000 + 999) / 1000)
      end
    end
    return 0
  end

  -- measure finds what each limit has counted, and whether the n sends of its
  -- slot, dated when, have room in it besides those promised. A watched subject
  -- is charged for those that fit.
  function S.measure(when, ahead, n, force)
    local full, passed, gains, at = false, false, false, S.at
    for i = 1, #S.subjects do
      local sub = S.subjects[i]
      local s, begins = sub.state, false
      sub.fits = n[s.root]
      for j = 1, #sub.limits do
        local u = sub.limits[j]
        local r = S.find(s, u.ms)
        local w = r or S.ring(u.ms, #s.rings > 0 and at or 0, 0, '')
        u.used, u.adds, u.frees = w.sent, n[s.root], -1
        if when <= s.epoch or when < w.since or S.index(w, when) < S.oldest(w, at) then u.adds = 0 end
        begins = begins or (not r and #s.rings > 0)
        if u.max ~= 0 and u.adds > 0 and u.used + ahead + u.adds > u.max then
          sub.full = true
          if sub.watched and not force then
            passed, sub.fits = true, math.min(sub.fits, math.max(0, u.max - u.used - ahead))
          else
            full = true
          end
          local room = u.max - ahead - u.adds
          u.frees = room >= 0 and S.frees(s, w, room) or 0
        end
      end
      gains = gains or (begins and sub.fits > 0)
    end
    return full, passed, gains
  end

  -- refuse counts refused sends against the subjects that refused, 4,096 of
  -- them at most: all of them, or where only watched ones would have, those that
  -- did not fit.
  function S.refuse(marks, full)
    for _, sub in ipairs(S.subjects) do
      local s, from = sub.state, full and 1 or 8 * sub.fits + 1
      if sub.full and from < #marks then
        local key, n = s.key .. ':r', s.marks
        for i = from, #marks, 8 do
          if s.marks < 4096 then s.marks = s.marks + redis.call('HSETNX', key, marks:sub(i, i + 7), '') end
        end
        if s.marks > n then
          redis.call('PEXPIRE', key, 2 * s.root.period + 600000)
          s.period = s.root.period
          S.save(s)
        end
      end
    end
  end

  -- forgive forgets the refusals against subjects that have room again.
  function S.forgive(ahead)
    local any = false
    for _, sub in ipairs(S.subjects) do
      local s = sub.state
      if s.marks > 0 then
        local room = true
        for _, u in ipairs(sub.limits) do room = room and (u.max <= 0 or u.used + ahead < u.max) end
        if room then
          redis.call('DEL', s.key .. ':r')
          s.marks, any = 0, true
        end
      end
    end
    return any
  end

  -- reply: 1 is yes, 0 no, 2 that the attempt was given up before it came.
  function S.reply(status, at, charged)
    local out = {status, at, charged}
    for i = 1, #S.subjects do
      local s, limits = S.subjects[i].state, S.subjects[i].limits
      for j = 1, #limits do
        local u, n = limits[j], #out
        out[n + 1], out[n + 2], out[n + 3], out[n + 4], out[n + 5] = u.used or 0, s.marks, u.frees or -1, s.epoch, S.subjects[i].fits or 0
      end
    end
    return out
  end
end

if op == 'look' then
  S.open()
  local ahead, marks, n = S.num(), S.text(), {}
  for _, root in ipairs(S.roots) do n[root] = math.max(1, #marks / 8) end
  local full, passed = S.measure(S.at, ahead, n)
  if full or passed then S.refuse(marks, full) end
  if full then return S.reply(0, S.at, 0) end
  if S.forgive(ahead) then S.saveall() end
  return S.reply(1, S.at, 0)
end

if op == 'take' then
  -- settle moves the outcome of a send that is charged in a slot. What was
  -- delivered or has failed stays so, in whatever order it is told.
  function S.settle(root, token, x, told, stamp)
    local have, want = x.outcome, x.outcome
    local a, b = have % 4, told % 4
    if a == 0 or (a == 2 and (b == 1 or b == 3)) then
      want = told
    elseif a == b and told >= 4 and have < 4 then
      want = have + 4
    end
    if want == have and (not stamp or (x.stamp or 0) >= stamp) then return false end
    local d = S.delta(S.delta({0, 0, 0, 0, 0}, 0, have, -1), 0, want, 1)
    for _, sub in ipairs(S.subjects) do
      if sub.state.root == root then S.count(sub.state, x.date, d) end
    end
    S.keep(root, token, x.date, want, x, stamp or x.stamp)
    return true
  end

  -- charge counts the fresh sends of each slot and keeps the records of those
  -- that somebody is charged for.
  function S.charge(fresh, when, outcome)
    local fit = {}
    for i = 1, #S.subjects do
      local s, limits, n = S.subjects[i].state, S.subjects[i].limits, S.subjects[i].fits
      local since = #s.rings > 0 and S.at or 0
      fit[s.root] = math.max(fit[s.root] or 0, n)
      if n > 0 then
        for j = 1, #limits do
          local u = limits[j]
          if not S.find(s, u.ms) then s.rings[#s.rings + 1] = S.ring(u.ms, since, 0, '') end
          u.used = u.used + math.min(u.adds, n)
        end
        S.count(s, when, S.delta({0, 0, 0, 0, 0}, n, outcome, n))
      end
    end
    for root, tokens in pairs(fresh) do
      for i = 1, fit[root] do
        local x = tokens[i]
        S.keep(root, x[1], when, outcome, x[2], x[3])
      end
    end
  end

  local period = S.open()
  local attempt, again, age, horizon = S.num(), S.num(), S.num(), S.num()
  local ahead, force, outcome = S.num(), S.num(), S.num()
  local tokens, marks = S.text(), S.text()
  local fresh, n, most, moved, unknown = {}, {}, 0, false, ''
  for i = 1, #S.roots do
    local root, some, seen = S.roots[i], {}, {}
    local first = most == 0
    for p = 1, #tokens, 8 do
      local token = tokens:sub(p, p + 7)
      local x = S.record(root, token)
      if x and x.dead and x.dead >= attempt then
        if moved then S.saveall() end
        return S.reply(2, S.at, 0)
      end
      if x and x.date and x.date > S.at - horizon then
        -- Where an earlier attempt was given up, what takes that back may be about to come.
        moved = S.settle(root, token, x, outcome, again > 0 and attempt) or moved
      elseif not seen[token] then
        seen[token] = true
        some[#some + 1] = {token, x, (again > 0 or x and x.dead) and attempt}
        if first then unknown = unknown .. marks:sub(p, p + 7) end
      end
    end
    fresh[root], n[root], most = some, #some, math.max(most, #some)
  end
  local at = S.at
  local when = at - age
  local full, passed, gains = S.measure(when, ahead, n, force > 0)
  if most == 0 or age >= period then
    if moved then S.saveall() end
    return S.reply(1, at, 0)
  end
  if full and force == 0 then
    if moved then S.saveall() end
    S.refuse(unknown, true)
    return S.reply(0, at, 0)
  end
  if gains then -- sends of this millisecond are not in the new ring
    S.setclock(at + 1)
    if age == 0 then when = at + 1 end
  end
  S.charge(fresh, when, outcome)
  if passed then S.refuse(unknown, false) end
  S.forgive(0)
  S.saveall()
  return S.reply(1, at, most)
end

-- drop takes sends back, and leaves word that no attempt up to this one is to
-- charge them any more. What a later attempt has charged stays.
if op == 'drop' then
  S.open()
  local attempt, horizon, tokens = S.num(), S.num(), S.text()
  for _, root in ipairs(S.roots) do
    for p = 1, #tokens, 8 do
      local token = tokens:sub(p, p + 7)
      local x = S.record(root, token)
      if not x or x.dead and x.dead < attempt or x.date and (x.stamp or 0) <= attempt then
        if x and x.date and x.date > S.at - horizon then
          local d = S.delta({0, 0, 0, 0, 0}, -1, x.outcome, -1)
          for _, sub in ipairs(S.subjects) do
            if sub.state.root == root then S.count(sub.state, x.date, d) end
          end
        end
        S.put(root, token, root.last, ('%d'):format(-attempt), x)
      end
    end
  end
  S.saveall()
  return {1}
end

-- reset restarts the subject at zero, as of some time ago, unless its epoch is
-- past seen. Returns whether it did, and the epoch.
if op == 'reset' then
  S.open()
  local age, seen = S.num(), S.num()
  local s, epoch = S.subjects[1].state, S.at - age
  if (seen >= 0 and s.epoch > seen) or epoch <= s.epoch then return {0, s.epoch} end
  for _, r in ipairs(s.rings) do
    local raw, top, from = r.raw, S.index(r, s.last), #r.raw + 1
    r.sent = 0
    for p = #raw - 20, age > 0 and 1 or #raw, -21 do -- what was sent since stays
      local b = top - (top - raw:byte(p)) % 256
      if (b + 1) * r.bucket <= epoch * 1000 then break end
      from, r.sent = p, r.sent + struct.unpack('<I4', raw, p + 1)
    end
    r.raw = raw:sub(from)
  end
  s.epoch, s.marks = epoch, 0
  redis.call('DEL', s.key .. ':r')
  -- What is charged later in this very millisecond belongs to the new epoch.
  if age == 0 then S.setclock(S.at + 1) end
  S.saveall()
  return {1, epoch}
end

-- standing tells all that is counted for a subject: epoch, refused sends, and
-- for each window its length and counts.
if op == 'standing' then
  S.open()
  local s = S.subjects[1].state
  local out = {s.epoch, s.marks}
  for _, r in ipairs(s.rings) do
    local sum = {r.ms, 0, 0, 0, 0, 0}
    for p = 1, #r.raw, 21 do
      local c = {struct.unpack('<I4I4I4I4I4', r.raw, p + 1)}
      for k = 1, 5 do sum[k + 1] = sum[k + 1] + c[k] end
    end
    for k = 1, 6 do out[#out + 1] = sum[k] end
  end
  return out
end
