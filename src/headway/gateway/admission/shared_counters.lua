-- One exchange of one gateway about one endpoint. All of it happens or nothing, and a repeat of the same exchange changes nothing.
--
-- KEYS[1]  counters: hash, tenant -> virtual tokens over weight
-- KEYS[2]  gateways: hash, name -> "at_ms running tokens long queued weight least"; name .. "#" -> number of its last exchange
-- ARGV     gateway, number of this exchange, alive_ms, keep_s, running, tokens, long, queued, weight, least ("" when nobody waits),
--          then for each tenant: name, base (what this gateway last saw), least ("" or raise to at least this), delta (add this after)
-- Returns  gateways alive besides this one, sums of their running, tokens, long, queued, weight, their smallest least (""),
--          then the value of each tenant, in order; numbers as text, since a Lua number in a reply loses its fraction
local counters, gateways = KEYS[1], KEYS[2]
local me, number, alive_ms, keep_s = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local last = tonumber(redis.call('HGET', gateways, me .. '#') or '-1')
local again = number <= last
redis.call('HSET', gateways, me, table.concat({now, ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]}, ' '), me .. '#', number)

local out, others, running, tokens, long, queued, weight, least = {}, 0, 0, 0, 0, 0, 0, nil
local all = redis.call('HGETALL', gateways)
for i = 1, #all, 2 do
  local name = all[i]
  if name ~= me and string.sub(name, -1) ~= '#' then
    local at, r, t, l, q, w, v = string.match(all[i + 1], '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ?(%S*)$')
    local age = at and now - tonumber(at) or math.huge
    if age < alive_ms then
      others, running, tokens = others + 1, running + tonumber(r), tokens + tonumber(t)
      long, queued, weight = long + tonumber(l), queued + tonumber(q), weight + tonumber(w)
      if v ~= '' and (least == nil or tonumber(v) < least) then least = tonumber(v) end
    elseif age > keep_s * 1000 then
      redis.call('HDEL', gateways, name, name .. '#')
    end
  end
end
out[1], out[2], out[3] = tostring(others), tostring(running), string.format('%.17g', tokens)
out[4], out[5], out[6] = tostring(long), tostring(queued), string.format('%.17g', weight)
out[7] = least and string.format('%.17g', least) or ''

for i = 11, #ARGV, 4 do
  local tenant, least_of, delta = ARGV[i], ARGV[i + 2], tonumber(ARGV[i + 3])
  local kept = redis.call('HGET', counters, tenant)
  local value = tonumber(kept or ARGV[i + 1])
  if not again then
    if least_of ~= '' and value < tonumber(least_of) then value = tonumber(least_of) end
    value = value + delta
  end
  local text = string.format('%.17g', value)
  if text ~= kept then redis.call('HSET', counters, tenant, text) end
  out[#out + 1] = text
end
redis.call('EXPIRE', counters, keep_s)
redis.call('EXPIRE', gateways, keep_s)
return out
