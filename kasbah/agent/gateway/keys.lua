-- Who may call: looks up the SHA-256 of the caller's key, so that no key is ever held, here or in the configuration.
-- DATA, set before this text, has a line per key: HASH=KEY_ID,PROJECT,CEILING,EXPIRES (PROJECT empty: only services that
-- name the key; CEILING empty: any level; EXPIRES, in seconds since 1970, empty: never).
-- The route's filter context says who may: project=..., level=0..4, allow={KEY_ID=true}. Whatever is absent refuses.
-- Expiry is held against this machine's clock here, so that it holds while there is no agent.

local bit = require("bit")
local band, bor, bxor, bnot = bit.band, bit.bor, bit.bxor, bit.bnot
local rol, ror, lshift, rshift, tobit = bit.rol, bit.ror, bit.lshift, bit.rshift, bit.tobit

local ROUND = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}
local START = {
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
}
local LONGEST_KEY = 512

-- FIPS 180-4, section 6.2.
local words = {}
local function sha256(text)
  local length = #text
  text = text .. "\128" .. string.rep("\0", (55 - length) % 64) .. "\0\0\0\0"
    .. string.char(band(rshift(length, 21), 255), band(rshift(length, 13), 255),
                   band(rshift(length, 5), 255), band(lshift(length, 3), 255))
  local h1, h2, h3, h4, h5, h6, h7, h8 = unpack(START)
  for block = 1, #text, 64 do
    for i = 1, 16 do
      local a, b, c, d = text:byte(block + i * 4 - 4, block + i * 4 - 1)
      words[i] = bor(lshift(a, 24), lshift(b, 16), lshift(c, 8), d)
    end
    for i = 17, 64 do
      local x, y = words[i - 15], words[i - 2]
      words[i] = tobit(words[i - 16] + bxor(ror(x, 7), ror(x, 18), rshift(x, 3))
        + words[i - 7] + bxor(ror(y, 17), ror(y, 19), rshift(y, 10)))
    end
    local a, b, c, d, e, f, g, h = h1, h2, h3, h4, h5, h6, h7, h8
    for i = 1, 64 do
      local first = tobit(h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, f), band(bnot(e), g))
        + ROUND[i] + words[i])
      local second = tobit(bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c)))
      h, g, f, e, d, c, b, a = g, f, e, tobit(d + first), c, b, a, tobit(first + second)
    end
    h1, h2, h3, h4 = tobit(h1 + a), tobit(h2 + b), tobit(h3 + c), tobit(h4 + d)
    h5, h6, h7, h8 = tobit(h5 + e), tobit(h6 + f), tobit(h7 + g), tobit(h8 + h)
  end
  local hex = bit.tohex
  return hex(h1) .. hex(h2) .. hex(h3) .. hex(h4) .. hex(h5) .. hex(h6) .. hex(h7) .. hex(h8)
end

local keys = {}
for hash, id, project, ceiling, expires in DATA:gmatch("(%x+)=([^,\n]+),([^,\n]*),(%d*),(%d*)\n") do
  keys[hash] = { id = id, project = project, ceiling = tonumber(ceiling), expires = tonumber(expires) }
end

local function refuse(handle, status, kind, code, message)
  handle:respond(
    { [":status"] = status, ["content-type"] = "application/json", ["www-authenticate"] = status == "401" and "Bearer" or nil },
    '{"error":{"message":"' .. message .. '","type":"' .. kind .. '","param":null,"code":"' .. code .. '"}}'
  )
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local header = headers:get("authorization") or ""
  local scheme, text = header:match("^(%a+) +([^ ]+)$")
  if not scheme or scheme:lower() ~= "bearer" then
    return refuse(handle, "401", "invalid_request_error", "missing_api_key",
      "This service needs a key: send it as Authorization: Bearer KEY.")
  end
  local key = #text <= LONGEST_KEY and keys[sha256(text)]
  if not key then
    return refuse(handle, "401", "invalid_request_error", "invalid_api_key",
      "This key is not known here: it is wrong, or it was revoked.")
  end
  if key.expires and os.time() >= key.expires then
    return refuse(handle, "401", "invalid_request_error", "expired_api_key",
      "This key has expired: ask whoever gave it to you for another.")
  end
  local context = handle:filterContext()
  local project = context and context:get("project")
  local allow = context and context:get("allow")
  local may = (project and key.project ~= "" and key.project == project) or (allow and allow[key.id] == true)
  if not may then
    return refuse(handle, "403", "permission_error", "key_not_allowed", "This key does not open this service.")
  end
  if key.ceiling then
    local level = context:get("level")
    if not (level and level <= key.ceiling) then
      return refuse(handle, "403", "permission_error", "label_ceiling",
        "This service handles data of a higher label than this key may be used for, or was signed for.")
    end
  end
  headers:replace("x-kasbah-key", key.id)
  headers:remove("authorization")
end
