package redislog

import "github.com/redis/go-redis/v9"

// A topic has three keys, which a cluster keeps together:
//
//	sluice:log:{topic}      the stream: field d holds the data, i the id
//	sluice:log:{topic}:ids  ids and where in the stream they are
//	sluice:log:{topic}:at   hi, lo: the newest position that was given to an entry
//	                        or as a head; thi, tlo: the newest entry that is gone
//
// All of them end when the newest entry is too old. A topic without keys has
// forgotten what it had: everything older than the retention's age is gone.
//
// Scripts take the time of the server alone.

const clock = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function text(n) return string.format('%.0f', n) end
`

// at reads the third key of a topic, and makes up what it says when it is not
// there. next gives the position that is behind all others.
const at = `
local function at(key, age)
  local v = redis.call('HMGET', key, 'hi', 'lo', 'thi', 'tlo')
  if v[1] then
    return {hi = tonumber(v[1]), lo = tonumber(v[2]), thi = v[3], tlo = v[4]}
  end
  return {hi = 0, lo = 0, thi = text(now - age - 1), tlo = '9223372036854775807', new = true}
end
local function next(a)
  if now > a.hi then
    a.hi, a.lo = now, 0
  else
    a.lo = a.lo + 1
  end
  return text(a.hi) .. '-' .. text(a.lo)
end
local function save(key, a)
  redis.call('HSET', key, 'hi', text(a.hi), 'lo', text(a.lo), 'thi', a.thi, 'tlo', a.tlo)
end
`

// KEYS stream, ids, at; ARGV id, data, events, age, topic, channel
var appendScript = redis.NewScript(clock + at + `
local stream, ids, place = KEYS[1], KEYS[2], KEYS[3]
local id, events, age = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local a = at(place, age)

local function drop(entries)
  for _, e in ipairs(entries) do
    local f = e[2]
    if f[3] then
      redis.call('HDEL', ids, f[4])
    end
    redis.call('XDEL', stream, e[1])
  end
  if #entries > 0 then
    a.thi, a.tlo = string.match(entries[#entries][1], '(%d+)-(%d+)')
  end
end

drop(redis.call('XRANGE', stream, '-', text(now - age - 1)))
if id ~= '' then
  local had = redis.call('HGET', ids, id)
  if had then
    local e = redis.call('XRANGE', stream, had, had)[1]
    if e then
      save(place, a)
      return {0, had, e[2][2]}
    end
  end
end
local position = next(a)
if id ~= '' then
  redis.call('XADD', stream, position, 'd', ARGV[2], 'i', id)
  redis.call('HSET', ids, id, position)
else
  redis.call('XADD', stream, position, 'd', ARGV[2])
end
local over = redis.call('XLEN', stream) - events
if over > 0 then
  drop(redis.call('XRANGE', stream, '-', '+', 'COUNT', over))
end
save(place, a)
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, age)
end
redis.call('PUBLISH', ARGV[6], ARGV[5])
return {1, position}
`)

// KEYS at; ARGV age, how long a topic without entries is remembered
var headScript = redis.NewScript(clock + at + `
local a = at(KEYS[1], tonumber(ARGV[1]))
local position = next(a)
save(KEYS[1], a)
if a.new then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return position
`)

// KEYS stream, at; ARGV first position, limit, age
var readScript = redis.NewScript(clock + at + `
local age = tonumber(ARGV[3])
local a = at(KEYS[2], age)
return {text(now - age), a.thi .. '-' .. a.tlo, redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])}
`)

// KEYS stream; ARGV last position, limit, age
var beforeScript = redis.NewScript(clock + `
return redis.call('XREVRANGE', KEYS[1], ARGV[1], text(now - tonumber(ARGV[3])), 'COUNT', ARGV[2])
`)

// KEYS lease; ARGV holder, ttl
var holdScript = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return 0
`)
