-- The operations, on what store.lua has; the two are one script.

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

  -- measure finds what each limit has counted, and whether it has room for the n sends
  -- of its slot, dated when, beside those let through already (ahead) and those withheld.
  -- A watched subject is charged only for as many as are admitted; within is how many
  -- that would be if nothing were withheld. needs is set if a subject is not counted yet
  -- in the window of a limit. (measure in ratelimit/decide.go is the same for a Ledger.)
  function S.measure(when, ahead, n, force)
    local full, passed, needs, at = false, false, false, S.at
    for i = 1, #S.subjects do
      local sub = S.subjects[i]
      local s = sub.state
      sub.admitted, sub.within, sub.full = n[s.root], n[s.root], false
      for j = 1, #sub.limits do
        local u = sub.limits[j]
        local r = S.find(s, u.ms)
        local w = r or S.ring(u.ms, 0, 0, '')
        u.used, u.adds, u.frees, u.past = w.sent, n[s.root], -1, 0
        if sub.state.past or when <= s.epoch or when < w.since or S.index(w, when) < S.oldest(w, at) then u.adds = 0 end
        needs = needs or (not r and #s.rings > 0)
        local withheld = force and 0 or u.withheld
        if u.max ~= 0 and u.adds > 0 and u.used + ahead + u.adds + withheld > u.max then
          local room = u.max - u.used - ahead
          if u.adds > room then
            sub.full, sub.within = true, math.min(sub.within, math.max(0, room))
            u.past = u.adds - math.max(0, room)
          end
          if sub.watched and not force then
            passed, sub.admitted = true, math.min(sub.admitted, math.max(0, room - withheld))
          else
            full = true
          end
          room = u.max - withheld - ahead - u.adds
          u.frees = room >= 0 and S.frees(s, w, room) or 0
        end
      end
    end
    return full, passed, needs
  end

  -- source returns the ring with whose counts a new window r starts, and since when that
  -- ring is complete: the shorter window that reaches back furthest, of those whose
  -- buckets each lie within one bucket of r. nil if there is none.
  function S.source(s, n, r, at)
    local best, from
    for i = 1, n do
      local q = s.rings[i]
      if q.ms <= r.ms and r.bucket % q.bucket == 0 then
        local since = math.max(q.since, math.ceil(S.oldest(q, at) * q.bucket / 1000))
        if not best or since < from then best, from = q, since end
      end
    end
    return best, from
  end

  -- seed starts the ring r with the counts of a shorter window q.
  function S.seed(s, r, q, since)
    local top, last, sums, out = S.index(q, s.last), nil, nil, {}
    local function close()
      if last then out[#out + 1] = struct.pack('<BI4I4I4I4I4', last % 256, unpack(sums)) end
    end
    for p = 1, #q.raw, 21 do
      local b = math.floor((top - (top - q.raw:byte(p)) % 256) * q.bucket / r.bucket)
      local c = {struct.unpack('<I4I4I4I4I4', q.raw, p + 1)}
      if b == last then
        for k = 1, 5 do sums[k] = sums[k] + c[k] end
      else
        close()
        last, sums = b, {c[1], c[2], c[3], c[4], c[5]}
      end
    end
    close()
    r.raw, r.sent, r.since = table.concat(out), q.sent, since
  end

  -- addwindows makes subjects that are counted already be counted in all windows of their
  -- limits. If a new window starts empty, the clock is moved on by a millisecond first,
  -- because sends made earlier in this millisecond are not in that window.
  function S.addwindows()
    local added, empty = {}, false
    for i = 1, #S.subjects do
      local s, n = S.subjects[i].state, #S.subjects[i].state.rings
      for _, u in ipairs(n > 0 and S.subjects[i].limits or {}) do
        if not S.find(s, u.ms) then
          local r = S.ring(u.ms, 0, 0, '')
          empty = empty or not S.source(s, n, r, S.at)
          s.rings[#s.rings + 1] = r
          added[#added + 1] = {s, n, r}
        end
      end
    end
    if empty then S.setclock(S.at + 1) end
    for _, g in ipairs(added) do
      local s, n, r = g[1], g[2], g[3]
      local q, since = S.source(s, n, r, S.at)
      if q then S.seed(s, r, q, since) else r.since = S.at end
    end
    S.saveall()
  end

  -- refuse counts refused sends of the subjects that refused, at most 4,096 distinct
  -- ones: all of them or, if only watched limits are full, those without room.
  function S.refuse(marks, full)
    for _, sub in ipairs(S.subjects) do
      local s, from = sub.state, full and 1 or 8 * sub.within + 1
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
        out[n + 1], out[n + 2], out[n + 3] = u.used or 0, s.marks, u.frees or -1
        out[n + 4], out[n + 5], out[n + 6] = s.epoch, S.subjects[i].admitted or 0, u.past or 0
      end
    end
    return out
  end
end

if op == 'look' then
  S.open()
  local ahead, marks, n = S.num(), S.text(), {}
  for _, root in ipairs(S.roots) do n[root] = math.max(1, #marks / 8) end
  local full, passed, needs = S.measure(S.at, ahead, n)
  if needs then
    S.addwindows()
    full, passed = S.measure(S.at, ahead, n)
  end
  if full or passed then S.refuse(marks, full) end
  if full then return S.reply(0, S.at, 0) end
  if #marks > 0 and S.forgive(ahead) then S.saveall() end
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
      if sub.state.root == root and not sub.state.past then S.count(sub.state, x.date, d) end
    end
    S.keep(root, token, x.date, want + x.others, x, stamp or x.stamp)
    return true
  end

  -- outdate takes back what an attempt that ran late has counted of a send from
  -- before a reset.
  function S.outdate(root, token, x)
    if not root.past or x.others > 0 or x.date <= root.epoch then return false end
    S.count(root, x.date, S.delta({-1, 0, 0, 0, 0}, 0, x.outcome, -1))
    x.others = 8
    S.keep(root, token, x.date, x.outcome + 8, x, x.stamp)
    return true
  end

  -- charge counts the fresh sends of each slot and keeps the records of those
  -- that somebody is charged for.
  function S.charge(fresh, when, outcome)
    local most, own = {}, {}
    for i = 1, #S.subjects do
      local s, limits, n = S.subjects[i].state, S.subjects[i].limits, S.subjects[i].admitted
      most[s.root] = math.max(most[s.root] or 0, n)
      if s.past then n = 0 end
      if s == s.root then own[s] = n end
      if n > 0 then
        for j = 1, #limits do
          local u = limits[j]
          if not S.find(s, u.ms) then s.rings[#s.rings + 1] = S.ring(u.ms, 0, 0, '') end
          u.used = u.used + math.min(u.adds, n)
        end
        S.count(s, when, S.delta({0, 0, 0, 0, 0}, n, outcome, n))
      end
    end
    for root, tokens in pairs(fresh) do
      for i = 1, most[root] do
        local x = tokens[i]
        S.keep(root, x[1], when, i > (own[root] or 0) and outcome + 8 or outcome, x[2], x[3])
      end
    end
  end

  local period = S.open()
  local attempt, again, age, horizon = S.num(), S.num(), S.num(), S.num()
  local ahead, force, outcome = S.num(), S.num(), S.num()
  local tokens, marks = S.text(), S.text()
  local fresh, known, n, most, moved, unknown, buried = {}, {}, {}, 0, false, '', false
  local at = S.at
  local when = at - age
  for i = 1, #S.roots do
    local root, some, seen = S.roots[i], {}, {}
    local first = most == 0
    for p = 1, #tokens, 8 do
      local token = tokens:sub(p, p + 7)
      local x = not seen[token] and S.record(root, token)
      buried = buried or x and x.dead and x.dead >= attempt
      if x and x.date and x.date > at - horizon then
        known[#known + 1] = {root, token, x}
      elseif not seen[token] then
        some[#some + 1] = {token, x, (again > 0 or x and x.dead) and attempt}
        if first then unknown = unknown .. marks:sub(p, p + 7) end
      end
      seen[token] = true
    end
    fresh[root], n[root], most = some, #some, math.max(most, #some)
    local gen = math.floor(when / root.period)
    if #some > 0 then S.touch(root, gen, gen == math.floor(at / root.period) and root.n0 or root.n1, #some) end
  end
  -- From here on nothing fails that would leave half of it written.
  for _, k in ipairs(known) do
    -- Where an earlier attempt was given up, what takes that back may be about to come.
    moved = S.outdate(k[1], k[2], k[3]) or moved
    moved = S.settle(k[1], k[2], k[3], outcome, again > 0 and attempt) or moved
  end
  if buried then
    if moved then S.saveall() end
    return S.reply(2, at, 0)
  end
  local full, passed, needs = S.measure(when, ahead, n, force > 0)
  if most == 0 or age >= period then
    if moved then S.saveall() end
    return S.reply(1, at, 0)
  end
  if needs then
    S.addwindows()
    if age == 0 then when = S.at end
    at = S.at
    full, passed = S.measure(when, ahead, n, force > 0)
  end
  if full and force == 0 then
    if moved then S.saveall() end
    S.refuse(unknown, true)
    return S.reply(0, at, 0)
  end
  S.charge(fresh, when, outcome)
  S.saveall()
  if passed then S.refuse(unknown, false) end
  if S.forgive(0) then S.saveall() end
  return S.reply(1, at, most)
end

-- drop takes sends back, and leaves word that no attempt up to this one is to
-- charge them any more. What a later attempt has charged stays.
if op == 'drop' then
  S.open()
  local attempt, horizon, tokens = S.num(), S.num(), S.text()
  for _, root in ipairs(S.roots) do
    for p = 1, #tokens, 8 do S.record(root, tokens:sub(p, p + 7)) end
    S.touch(root, math.floor(root.last / root.period), root.n0, #tokens / 8)
  end
  for _, root in ipairs(S.roots) do
    for p = 1, #tokens, 8 do
      local token = tokens:sub(p, p + 7)
      local x = S.record(root, token)
      if not x or x.dead and x.dead < attempt or x.date and (x.stamp or 0) <= attempt then
        if x and x.date and x.date > S.at - horizon then
          local d = S.delta({0, 0, 0, 0, 0}, -1, x.outcome, -1)
          for _, sub in ipairs(S.subjects) do
            if sub.state.root == root and not sub.state.past then S.count(sub.state, x.date, d) end
          end
        end
        S.put(root, token, root.last, ('%d'):format(-attempt), x)
      end
    end
  end
  S.saveall()
  return {1}
end

-- reset restarts the subject at zero, as of a time reckoned from one that Redis has
-- told, or as of now, if that is earlier, unless its epoch is past seen. Returns
-- whether it did, and the epoch. One that another node has told before, a moment earlier by
-- its clock, takes nothing off the counts, and then forgets no refusals: they came since.
if op == 'reset' then
  -- halve leaves of the oldest bucket of rings what the records of the slot say was
  -- sent after the epoch. Who among the subjects of the slot was charged they only
  -- tell for the one that is named like it: another one keeps as much as it may be.
  function S.halve(rings, s, epoch)
    local root, sums, till = s.root, {}, 0
    for i, r in ipairs(rings) do
      sums[i] = {0, 0, 0, 0, 0}
      till = math.max(till, math.ceil((S.index(r, epoch) + 1) * r.bucket / 1000))
    end
    local now = math.floor(S.at / root.period)
    for gen = math.floor(epoch / root.period), math.min(now, math.floor(till / root.period)) do
      local n = gen == now and root.n0 or root.n1
      for shard = 0, n > 0 and math.floor(n / 150) or -1 do
        local all = redis.call('HVALS', S.shardkey(root, gen, shard))
        for j = 1, #all do
          local v = tonumber(all[j]:match('[^:]*'))
          local date = gen * root.period + math.floor(v / 16)
          if v >= 0 and date > epoch and date < till and (s ~= root or v % 16 < 8) then
            for i, r in ipairs(rings) do
              if date >= r.since and S.index(r, date) == S.index(r, epoch) then S.delta(sums[i], 1, v % 8, 1) end
            end
          end
        end
      end
    end
    for i, r in ipairs(rings) do
      local c = {struct.unpack('<I4I4I4I4I4', r.raw, 2)}
      r.sent = r.sent - c[1]
      for k = 1, 5 do c[k] = math.min(c[k], sums[i][k]) end
      r.sent = r.sent + c[1]
      r.raw = r.raw:sub(1, 1) .. struct.pack('<I4I4I4I4I4', unpack(c)) .. r.raw:sub(22)
    end
  end

  S.open()
  local epoch, seen, s, cut, before, left = math.min(S.num() or S.at, S.at), S.num(), S.subjects[1].state, {}, 0, 0
  if (seen >= 0 and s.epoch > seen) or epoch <= s.epoch then return {0, s.epoch} end
  for _, r in ipairs(s.rings) do
    local raw, top, first, from = r.raw, S.index(r, s.last), S.index(r, epoch), #r.raw + 1
    before, r.sent = before + r.sent, 0
    for p = #raw - 20, epoch < S.at and 1 or #raw, -21 do -- what was sent since stays
      local b = top - (top - raw:byte(p)) % 256
      if b < first then break end
      from, r.sent = p, r.sent + struct.unpack('<I4', raw, p + 1)
      if b == first then cut[#cut + 1] = r end
    end
    r.raw = raw:sub(from)
  end
  -- Of a time whose records are forgotten, nobody can tell.
  if #cut > 0 and epoch > (math.floor(S.at / s.root.period) - 1) * s.root.period then S.halve(cut, s, epoch) end
  for _, r in ipairs(s.rings) do left = left + r.sent end
  s.epoch = epoch
  if left == 0 or left < before then
    s.marks = 0
    redis.call('DEL', s.key .. ':r')
  end
  -- What is charged later in this very millisecond belongs to the new epoch.
  if epoch >= S.at then S.setclock(S.at + 1) end
  S.saveall()
  return {1, epoch}
end

-- standing tells all that is counted for a subject: the time, epoch, refused sends,
-- and for each window its length and counts.
if op == 'standing' then
  S.open()
  local s = S.subjects[1].state
  local out = {S.at, s.epoch, s.marks}
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
