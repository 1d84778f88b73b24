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
local call, pack, read, concat, floor, max = redis.call, struct.pack, struct.unpack, table.concat, math.floor, math.max

local HEAD = '<ddI4I4I4I2' -- time of writing, epoch, period, records of this generation and the one before, marks
local RING = '<I4dBI4'     -- window in ms, since, number of buckets, sends in all of them
local BUCKET = '<BI4I4I4I4I4' -- index modulo 256, sent, delivered, deferred, failed, excused
local SIZE = 21            -- of a bucket
local PER_SHARD = 150      -- records, on average: at most twice as many, and some by chance, are in one hash
local MARKS = 4096         -- refused sends told apart for one subject
local MARGIN = 600000      -- ms that keys outlive what they hold

local argn = 1
local function arg() argn = argn + 1 return ARGV[argn] end
local function num() return tonumber(arg()) end

-- Subjects.

local states = {}

local function load(key)
  local s = states[key]
  if s then return s end
  s = {key = key, rings = {}, last = 0, epoch = 0, period = 0, n = {0, 0}, marks = 0}
  states[key] = s
  local v = call('GET', key)
  if not v then return s end
  local p
  s.last, s.epoch, s.period, s.n[1], s.n[2], s.marks, p = read(HEAD, v)
  while p <= #v do
    local ms, since, n, sent
    ms, since, n, sent, p = read(RING, v, p)
    s.rings[#s.rings + 1] = {ms = ms, since = since, sent = sent, raw = v:sub(p, p + SIZE * n - 1), bucket = floor((ms * 1000 + 59) / 60)}
    p = p + SIZE * n
  end
  return s
end

local function index(r, ms) return floor(ms * 1000 / r.bucket) end
local function oldest(r, ms) return floor((ms - r.ms) * 1000 / r.bucket) end

-- prune drops the buckets that no longer count at a time.
local function prune(s, at)
  for _, r in ipairs(s.rings) do
    local top, low = index(r, s.last), oldest(r, at)
    local p = 1
    while p < #r.raw do
      local b, sent = read('<BI4', r.raw, p)
      if top - (top - b) % 256 >= low then break end
      r.sent = r.sent - sent
      p = p + SIZE
    end
    if p > 1 then r.raw = r.raw:sub(p) end
  end
  s.last = at
end

local function find(s, ms)
  for _, r in ipairs(s.rings) do
    if r.ms == ms then return r end
  end
end

-- each calls f with the buckets of a pruned ring, the newest first, until it
-- returns true.
local function eachbucket(s, r, f)
  local top = index(r, s.last)
  for p = #r.raw - SIZE + 1, 1, -SIZE do
    if f(top - (top - r.raw:byte(p)) % 256, p) then return end
  end
end

-- count adds to the counts of a subject where a send dated when is counted.
local function count(s, when, delta)
  if when <= s.epoch then return end
  for _, r in ipairs(s.rings) do
    local i = index(r, when)
    if when >= r.since and i >= oldest(r, s.last) then
      local here, c = 1, nil
      eachbucket(s, r, function(b, p)
        if b == i then
          here, c = p, {read(BUCKET, r.raw, p)}
        elseif b < i then
          here = p + SIZE
        end
        return b <= i
      end)
      local rest = c and here + SIZE or here
      c = c or {0, 0, 0, 0, 0, 0}
      r.sent = max(0, r.sent + delta[1])
      for k = 1, 5 do c[k + 1] = max(0, c[k + 1] + delta[k]) end
      r.raw = r.raw:sub(1, here - 1) .. pack(BUCKET, i % 256, c[2], c[3], c[4], c[5], c[6]) .. r.raw:sub(rest)
    end
  end
end

local function save(s)
  local out, ttl = {pack(HEAD, s.last, s.epoch, s.period, s.n[1], s.n[2], s.marks)}, 2 * s.period
  for _, r in ipairs(s.rings) do
    out[#out + 1] = pack(RING, r.ms, r.since, #r.raw / SIZE, r.sent)
    out[#out + 1] = r.raw
    ttl = max(ttl, r.ms + r.ms / 60)
  end
  call('SET', s.key, concat(out), 'PX', floor(ttl) + MARGIN)
end

-- delta is what a send with an outcome adds to the counts.
local function delta(sent, outcome, n, into)
  local d = into or {0, 0, 0, 0, 0}
  d[1] = d[1] + sent
  local kind = outcome % 4
  if kind > 0 then d[kind + 1] = d[kind + 1] + n end
  if outcome >= 4 then d[5] = d[5] + n end
  return d
end

-- Send records. A generation is a period of dates, as long as sends are kept,
-- so that two of them hold all. Its records are in hashes that are split one
-- after the other as it grows (linear hashing): short ones take 16 bytes a record.

local function hash(token) return (read('<I4', token)) end

local function shardkey(root, gen, shard) return root.key .. '#' .. gen .. '.' .. shard end

-- place is the key of the hash for a token, among n records of a generation.
local function place(root, gen, n, token)
  local shards, half = 1 + floor(n / PER_SHARD), 1
  while half * 2 <= shards do half = half * 2 end
  local i = hash(token) % (2 * half)
  if i >= shards then i = i - half end
  return shardkey(root, gen, i)
end

local function expire(root, gen, key)
  call('PEXPIRE', key, (gen + 2) * root.period - root.last + MARGIN)
end

-- split moves half of a hash into the new one, whose number is shard.
local function split(root, gen, shard)
  local half = 1
  while half * 2 <= shard do half = half * 2 end
  local from, to = shardkey(root, gen, shard - half), shardkey(root, gen, shard)
  local all, gone, moved = call('HGETALL', from), {}, {}
  for j = 1, #all, 2 do
    if hash(all[j]) % (2 * half) == shard then
      gone[#gone + 1] = all[j]
      moved[#moved + 1] = all[j]
      moved[#moved + 1] = all[j + 1]
    end
  end
  if #gone > 0 then
    call('HDEL', from, unpack(gone))
    call('HSET', to, unpack(moved))
    expire(root, gen, to)
  end
end

-- record looks a token up: the record, and the hash in which it is.
local function record(root, token)
  local gen = floor(root.last / root.period)
  for back = 0, 1 do
    if root.n[1 + back] > 0 then
      local key = place(root, gen - back, root.n[1 + back], token)
      local v = call('HGET', key, token)
      if v then
        local stamp = v:match(':(.*)')
        v = tonumber(stamp and v:match('[^:]*') or v)
        if v < 0 then return {key = key, dead = -v} end
        return {key = key, date = (gen - back) * root.period + floor(v / 16), outcome = v % 16, stamp = tonumber(stamp)}
      end
    end
  end
end

local function put(root, token, date, value, old)
  local now = floor(root.last / root.period)
  local gen = floor(date / root.period)
  local g = 1 + now - gen
  local key = place(root, gen, root.n[g], token)
  if old and old.key == key then
    call('HSET', key, token, value)
    return
  end
  if old then call('HDEL', old.key, token) end
  call('HSET', key, token, value)
  expire(root, gen, key)
  root.n[g] = root.n[g] + 1
  if root.n[g] % PER_SHARD == 0 then split(root, gen, root.n[g] / PER_SHARD) end
end

local function keep(root, token, date, outcome, old, stamp)
  local value = (date % root.period) * 16 + outcome
  if stamp then value = string.format('%.0f:%.0f', value, stamp) end
  put(root, token, date, value, old)
end

-- bury leaves word that an attempt must not charge the token any more.
local function bury(root, token, attempt, old)
  put(root, token, root.last, -attempt, old)
end

-- roll sets the clock of a slot, and forgets generations that are over.
local function roll(root, at)
  if root.period > 0 then
    local passed = floor(at / root.period) - floor(root.last / root.period)
    if passed == 1 then root.n = {0, root.n[1]} elseif passed > 1 then root.n = {0, 0} end
  end
end

-- lengthen lays the records out anew where sends are to be kept for longer.
local function lengthen(root, period)
  if period <= root.period then return end
  local old, gen, all = root.period, 0, {}
  for back = 0, old > 0 and 1 or -1, 1 do
    gen = floor(root.last / old) - back
    for shard = 0, floor(root.n[1 + back] / PER_SHARD) do
      local key = shardkey(root, gen, shard)
      local fields = call('HGETALL', key)
      for j = 1, #fields, 2 do
        local v, stamp = fields[j + 1]:match('([^:]*):?(.*)')
        all[#all + 1] = {fields[j], tonumber(v), gen * old, tonumber(stamp)}
      end
      if #fields > 0 then call('DEL', key) end
    end
  end
  root.period, root.n = period, {0, 0}
  for _, x in ipairs(all) do
    if x[2] < 0 then
      bury(root, x[1], -x[2])
    else
      keep(root, x[1], x[3] + floor(x[2] / 16), x[2] % 16, nil, x[4])
    end
  end
  if #all > 0 then save(root) end
end

-- A call: which subjects of which slots at which time.

local roots, subjects, at = {}, {}, 0

-- open reads the time, the slots and the subjects with the limits that are
-- asked for. The time of a slot never goes back.
local function open()
  local given = arg()
  if given == '' then
    local t = call('TIME')
    at = t[1] * 1000 + floor(t[2] / 1000)
  else
    at = tonumber(given)
  end
  local period, nroots = num(), num()
  for i = 1, nroots do
    roots[i] = load(KEYS[i])
    roots[i].root = roots[i]
    at = max(at, roots[i].last)
  end
  for i = 1, num() do
    local s = load(KEYS[nroots + i])
    s.root = roots[num()]
    local sub = {state = s, limits = {}}
    for j = 1, num() do sub.limits[j] = {ms = num(), max = num()} end
    subjects[i] = sub
  end
  for _, root in ipairs(roots) do roll(root, at) end
  for _, s in pairs(states) do prune(s, at) end
  return period
end

local function setclock(t)
  for _, root in ipairs(roots) do roll(root, t) end
  for _, s in pairs(states) do prune(s, t) end
  at = t
end

-- saveall writes the slots and the subjects that were touched.
local function saveall()
  for _, s in pairs(states) do
    s.period = s.root.period
    save(s)
  end
end

-- frees is when a pruned ring holds at most room sends.
local function frees(s, r, room)
  local left, free = 0, 0
  eachbucket(s, r, function(b, p)
    local _, sent = read('<BI4', r.raw, p)
    left = left + sent
    if left > room then
      free = floor(((b + 1) * r.bucket + r.ms * 1000 + 999) / 1000)
      return true
    end
  end)
  return free
end

-- measure finds what each limit has counted, and whether the n sends of its
-- slot, dated when, have room in it besides those promised.
local function measure(when, ahead, n)
  local full, gains = false, false
  for _, sub in ipairs(subjects) do
    local s = sub.state
    for _, u in ipairs(sub.limits) do
      local r = find(s, u.ms)
      local w = r or {ms = u.ms, bucket = floor((u.ms * 1000 + 59) / 60)}
      local since = r and r.since or (#s.rings > 0 and at or 0)
      u.used, u.adds, u.frees = r and r.sent or 0, n[s.root], -1
      if index(w, when) < oldest(w, at) or when <= s.epoch or when < since then u.adds = 0 end
      gains = gains or (not r and #s.rings > 0)
      if u.max ~= 0 and u.adds > 0 and u.used + ahead + u.adds > u.max then
        full, sub.full = true, true
        local room = u.max - ahead - u.adds
        u.frees = room >= 0 and r and frees(s, r, room) or 0
      end
    end
  end
  return full, gains
end

-- refuse counts refused sends against the subjects that refused.
local function refuse(marks)
  if #marks == 0 then return end
  for _, sub in ipairs(subjects) do
    local s = sub.state
    if sub.full then
      local key, n = s.key .. ':r', s.marks
      for i = 1, #marks, 8 do
        if s.marks < MARKS then
          s.marks = s.marks + call('HSETNX', key, marks:sub(i, i + 7), '')
        end
      end
      if s.marks > n then
        call('PEXPIRE', key, 2 * s.root.period + MARGIN)
        s.period = s.root.period
        save(s)
      end
    end
  end
end

-- forgive forgets the refusals against subjects that have room again.
local function forgive(ahead)
  local any = false
  for _, sub in ipairs(subjects) do
    local s, room = sub.state, true
    for _, u in ipairs(sub.limits) do room = room and (u.max <= 0 or u.used + ahead < u.max) end
    if room and s.marks > 0 then
      call('DEL', s.key .. ':r')
      s.marks, any = 0, true
    end
  end
  return any
end

local function reply(status, charged)
  local out = {status, at, charged}
  for _, sub in ipairs(subjects) do
    for _, u in ipairs(sub.limits) do
      out[#out + 1] = u.used
      out[#out + 1] = sub.state.marks
      out[#out + 1] = u.frees
      out[#out + 1] = sub.state.epoch
    end
  end
  return out
end

local OK, REFUSED, BURIED = 1, 0, 2
local op = {}

-- then is the outcome after another one was told, in whatever order they come.
local function joined(have, told)
  local a, b = have % 4, told % 4
  if a == 0 or (a == 2 and (b == 1 or b == 3)) then return told end
  if a == b and told >= 4 and have < 4 then return have + 4 end
  return have
end

-- settle moves the outcome of a send that is charged in a slot.
local function settle(root, token, x, told)
  local want = joined(x.outcome, told)
  if told == 0 or want == x.outcome then return false end
  local d = delta(0, want, 1, delta(0, x.outcome, -1))
  for _, sub in ipairs(subjects) do
    if sub.state.root == root then count(sub.state, x.date, d) end
  end
  keep(root, token, x.date, want, x, x.stamp)
  return true
end

-- charge counts the fresh sends of each slot and keeps their records.
local function charge(fresh, when, outcome)
  for _, sub in ipairs(subjects) do
    local s, n = sub.state, #fresh[sub.state.root]
    local since = #s.rings > 0 and at or 0
    for _, u in ipairs(sub.limits) do
      if n > 0 then
        if not find(s, u.ms) then
          s.rings[#s.rings + 1] = {ms = u.ms, since = since, sent = 0, raw = '', bucket = floor((u.ms * 1000 + 59) / 60)}
        end
        u.used = u.used + u.adds
      end
    end
    if n > 0 then count(s, when, delta(n, outcome, n)) end
  end
  for root, tokens in pairs(fresh) do
    for _, x in ipairs(tokens) do keep(root, x[1], when, outcome, x[2], x[3]) end
  end
end

function op.take()
  local period = open()
  local attempt, again, age, horizon, ahead, force, outcome = num(), num(), num(), num(), num(), num(), num()
  local tokens, marks = arg(), arg()
  for _, root in ipairs(roots) do lengthen(root, period) end
  local fresh, n, most, first, moved = {}, {}, 0, {}, false
  for _, root in ipairs(roots) do
    local some, seen = {}, {}
    for i = 1, #tokens, 8 do
      local token = tokens:sub(i, i + 7)
      local x = record(root, token)
      if x and x.dead and x.dead >= attempt then
        if moved then saveall() end
        return reply(BURIED, 0)
      end
      if x and x.date and x.date > at - horizon then
        moved = settle(root, token, x, outcome) or moved
        if again > 0 and (x.stamp or 0) < attempt then -- what gave up an earlier one is about to arrive
          keep(root, token, x.date, joined(x.outcome, outcome), x, attempt)
        end
      elseif not seen[token] then
        seen[token] = true
        some[#some + 1] = {token, x, (again > 0 or x and x.dead) and attempt}
        if not first[i] then first[i] = marks:sub(i, i + 7) end
      end
    end
    fresh[root], n[root], most = some, #some, max(most, #some)
  end
  local when = at - age
  local full, gains = measure(when, ahead, n)
  if most == 0 or age >= period then
    if moved then saveall() end
    return reply(OK, 0)
  end
  if full and force == 0 then
    local unknown = {}
    for i = 1, #tokens, 8 do unknown[#unknown + 1] = first[i] end
    refuse(concat(unknown))
    return reply(REFUSED, 0)
  end
  local told = at
  if gains then -- sends of this millisecond are not in the new ring
    setclock(at + 1)
    if age == 0 then when = at end
  end
  charge(fresh, when, outcome)
  forgive(0)
  saveall()
  local out = reply(OK, most)
  out[2] = told
  return out
end

function op.look()
  local period = open()
  local ahead, marks = num(), arg()
  local n = {}
  for _, root in ipairs(roots) do
    lengthen(root, period)
    n[root] = max(1, #marks / 8)
  end
  if measure(at, ahead, n) then
    refuse(marks)
    return reply(REFUSED, 0)
  end
  if forgive(ahead) then saveall() end
  return reply(OK, 0)
end

-- drop takes sends back, and buries those that no attempt charged yet.
function op.drop()
  local period = open()
  local attempt, horizon, tokens = num(), num(), arg()
  for _, root in ipairs(roots) do
    lengthen(root, period)
    for i = 1, #tokens, 8 do
      local token = tokens:sub(i, i + 7)
      local x = record(root, token)
      if x and x.date and x.date > at - horizon and (x.stamp or 0) < attempt then
        local d = delta(-1, x.outcome, -1)
        for _, sub in ipairs(subjects) do
          if sub.state.root == root then count(sub.state, x.date, d) end
        end
      end
      if not x or (x.stamp or x.dead or 0) < attempt then bury(root, token, attempt, x) end
    end
  end
  saveall()
  return reply(OK, 0)
end

-- reset restarts the subject at zero, as of some time ago.
function op.reset()
  local period = open()
  local age, seen = num(), num()
  local s, epoch = subjects[1].state, at - age
  if (seen >= 0 and s.epoch > seen) or epoch <= s.epoch then return {REFUSED, s.epoch, at} end
  lengthen(roots[1], period)
  for _, r in ipairs(s.rings) do
    local from = #r.raw + 1
    if age > 0 then -- what was sent since stays
      eachbucket(s, r, function(b, p)
        if (b + 1) * r.bucket > epoch * 1000 then from = p end
      end)
    end
    r.raw, r.sent = r.raw:sub(from), 0
    for p = 1, #r.raw, SIZE do
      local _, sent = read('<BI4', r.raw, p)
      r.sent = r.sent + sent
    end
  end
  s.epoch, s.marks = epoch, 0
  call('DEL', s.key .. ':r')
  if age == 0 then setclock(at + 1) end
  saveall()
  return {OK, epoch, at}
end

-- standing tells all that is counted for a subject.
function op.standing()
  open()
  local s = subjects[1].state
  local out = {s.epoch, s.marks}
  for _, r in ipairs(s.rings) do
    local sum = {r.ms, 0, 0, 0, 0, 0}
    for p = 1, #r.raw, SIZE do
      local c = {read(BUCKET, r.raw, p)}
      for k = 2, 6 do sum[k] = sum[k] + c[k] end
    end
    for k = 1, 6 do out[#out + 1] = sum[k] end
  end
  return out
end

return op[ARGV[1]]()
