-- Narinfos of a cache with a million paths: most of a thousand that everybody asks for, the rest of all. With an
-- argument each connection waits that many milliseconds on average before it asks again; with another one so many
-- requests in a hundred are for one of the thousand, instead of 95.
local prefix = wrk.path:gsub("[^/]*$", "")
local pauseMs = nil
local hotPercent = 95
math.randomseed(os.time())

function init(args)
  pauseMs = tonumber(args[1])
  hotPercent = tonumber(args[2]) or hotPercent
  if pauseMs == nil then delay = nil end
end

function delay()
  return math.random(0, 2 * pauseMs)
end

function request()
  local number = math.random(1000)
  if math.random(100) > hotPercent then number = math.random(1000000) end
  return wrk.format("GET", prefix .. string.format("%032d", number) .. ".narinfo")
end
