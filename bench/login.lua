-- Signs in as one of 32 people, each in turn.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local count = 0

function request()
  count = count + 1
  local body = '{"loginname":"person-' .. count % 32 .. '","password":"Tr0ub4dor&3x"}'
  return wrk.format(nil, nil, nil, body)
end
