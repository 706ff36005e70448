-- What the gateway does with a key on each request, written for nginx and Lua the way an expert would.
--
-- A record is looked up in the shared dictionary by the SHA-256 of the presented key, on every request: a change of
-- the dictionary therefore counts at once. The string found there is decoded once and remembered under itself (Lua
-- interns strings, so that costs one table look-up, and a changed record is another string). SHA-256 is libcrypto's own.
local ffi = require("ffi")
ffi.cdef([[unsigned char *SHA256(const unsigned char *data, size_t length, unsigned char *digest);]])

local ngx, C = ngx, ffi.C
local records, counters, last_used = ngx.shared.records, ngx.shared.counters, ngx.shared.last_used
local lower, sub, gmatch, byte = string.lower, string.sub, string.gmatch, string.byte
local ffi_string, SPACE = ffi.string, byte(" ")
local digest_buffer = ffi.new("unsigned char[32]")

local MAX_DECODED = 100000

local M = { note_last_use = false }
local decoded, decoded_count = {}, 0

local function sha256(text)
    C.SHA256(text, #text, digest_buffer)
    return ffi_string(digest_buffer, 32)
end

local function granted_allows(patterns, wanted)
    local wanted_resource, wanted_action = wanted:match("^([^:]+):(.+)$")
    for pattern in gmatch(patterns, "[^,]+") do
        local resource, action = pattern:match("^([^:]+):(.+)$")
        local resource_fits = resource == wanted_resource or (resource == "*" and wanted_resource ~= "gateway")
        if resource_fits and (action == "*" or action == wanted_action) then
            return true
        end
    end
    return false
end

local function decode(text)
    local fields = {}
    for field in gmatch(text .. "\t", "([^\t]*)\t") do
        fields[#fields + 1] = field
    end
    return {
        secret_valid_until = tonumber(fields[1]) or math.huge,
        revoked = fields[2] ~= "",
        expires_at = tonumber(fields[3]) or math.huge,
        disabled = fields[4] ~= "",
        permissions = fields[5],
        owner_permissions = fields[6],
        key_id = fields[7],
        owner_id = fields[8],
        owner_name = fields[9],
        owner_external_id = fields[10],
        organization_id = fields[11],
        allowed = {}, -- wanted permission -> answer; holds as long as the record does, being part of it
    }
end

local function record_of(secret)
    local text = records:get(sha256(secret))
    if not text then
        return nil
    end
    local record = decoded[text]
    if not record then
        if decoded_count >= MAX_DECODED then
            decoded, decoded_count = {}, 0
        end
        record = decode(text)
        decoded[text], decoded_count = record, decoded_count + 1
    end
    return record
end

local function allows(record, wanted)
    local answer = record.allowed[wanted]
    if answer == nil then
        answer = granted_allows(record.permissions, wanted) and granted_allows(record.owner_permissions, wanted)
        record.allowed[wanted] = answer
    end
    return answer
end

local function refuse(status, title, code, detail, challenge)
    local header = ngx.header
    header.content_type = "application/problem+json"
    header.www_authenticate = challenge
    ngx.status = status
    ngx.print('{"type":"about:blank","title":"', title, '","status":', status, ',"detail":"', detail,
        '","code":"', code, '","request_id":"', ngx.var.request_id, '"}')
    return ngx.exit(status)
end

local MISSING = { 'Bearer realm="gateway"', 'ApiKey realm="gateway"' }
local INVALID = { 'Bearer realm="gateway", error="invalid_token"', 'ApiKey realm="gateway"' }
local LACKING = { 'Bearer realm="gateway", error="insufficient_scope"', 'ApiKey realm="gateway"' }

local function presented(var)
    local secret = var.http_x_api_key
    if secret then
        return secret
    end
    local authorization = var.http_authorization
    if authorization and byte(authorization, 7) == SPACE and lower(sub(authorization, 1, 6)) == "bearer" then
        var.onward_authorization = ""
        return sub(authorization, 8)
    end
    return nil
end

function M.check(wanted)
    local var = ngx.var
    local secret = presented(var)
    if not secret then
        return refuse(401, "Unauthorized", "missing_api_key", "Send an API key in X-API-KEY.", MISSING)
    end
    local record = record_of(secret)
    local now = ngx.now()
    if not record or now >= record.secret_valid_until then
        return refuse(401, "Unauthorized", "invalid_api_key", "This API key is not known here.", INVALID)
    end
    if record.revoked then
        return refuse(401, "Unauthorized", "revoked_api_key", "This API key was revoked.", INVALID)
    end
    if now >= record.expires_at then
        return refuse(401, "Unauthorized", "expired_api_key", "This API key has expired.", INVALID)
    end
    if record.disabled then
        return refuse(401, "Unauthorized", "disabled_api_key", "This API key is disabled.", INVALID)
    end
    if not allows(record, wanted) then
        return refuse(403, "Forbidden", "insufficient_permissions", "This API key lacks a permission.", LACKING)
    end
    var.consumer_id = record.owner_id
    var.consumer_username = record.owner_name
    var.consumer_custom_id = record.owner_external_id
    var.credential_id = record.key_id
    var.organization_id = record.organization_id
    counters:incr(record.key_id, 1, 0)
    if M.note_last_use then
        last_used:set(record.key_id, now)
    end
end

function M.load(path)
    for line in io.lines(path) do
        local hex, text = line:match("^(%x+)\t(.*)$")
        records:set((hex:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)), text)
    end
end

return M
