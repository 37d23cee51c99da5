-- Another store path in each request, as a client asks for what only other caches have.
local digits = "0123456789abcdfghijklmnpqrsvwxyz"
local prefix = wrk.path:gsub("[^/]*$", "")
local count = 0
math.randomseed(os.time())
local head = {}
for i = 1, 22 do
  local n = math.random(32)
  head[i] = digits:sub(n, n)
end
head = table.concat(head)

function request()
  count = count + 1
  return wrk.format("GET", prefix .. head .. string.format("%010d", count) .. ".narinfo")
end
