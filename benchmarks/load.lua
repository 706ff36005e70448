-- What wrk sends. Arguments after "--": keys file, mode, method, path, body bytes, fields, mean pause in milliseconds.
--   mode    rotate  the next key for each request, over all connections
--           steady  one key per wrk thread, so that each connection repeats its own
--           none    no key at all
--   fields  plain | browser: beside Host and the key, nothing or twelve fields as browsers send them
-- Every request is formatted before the clock starts, so that picking one costs an index and nothing else.
local BROWSER = {
    ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    ["Accept"] = "application/json, text/plain, */*",
    ["Accept-Language"] = "en-US,en;q=0.9,de;q=0.8",
    ["Accept-Encoding"] = "gzip, deflate, br, zstd",
    ["Referer"] = "https://app.example.com/items?page=2",
    ["Origin"] = "https://app.example.com",
    ["Sec-Fetch-Dest"] = "empty",
    ["Sec-Fetch-Mode"] = "cors",
    ["Sec-Fetch-Site"] = "same-site",
    ["Sec-CH-UA-Platform"] = '"Linux"',
    ["Cookie"] = "session=0123456789abcdef0123456789abcdef; theme=dark; locale=en_US",
    ["Cache-Control"] = "no-cache",
}

local thread_count = 0

function setup(thread)
    thread:set("thread_number", thread_count)
    thread_count = thread_count + 1
end

function init(args)
    local path_of_keys, mode, method, path = args[1], args[2], args[3], args[4]
    local body_bytes, fields, pause = tonumber(args[5]), args[6], tonumber(args[7])
    local headers = {}
    if fields == "browser" then
        for name, value in pairs(BROWSER) do headers[name] = value end
    end
    local body
    if body_bytes > 0 then
        body = '{"text":"' .. string.rep("x", body_bytes - 11) .. '"}'
        headers["Content-Type"] = "application/json"
    end

    local requests, count = {}, 0
    for key in io.lines(path_of_keys) do
        if mode ~= "none" then headers["X-API-KEY"] = key end
        count = count + 1
        requests[count] = wrk.format(method, path, headers, body)
        if mode == "none" then break end
    end

    local next_index = 0
    if mode == "steady" then
        local own = requests[thread_number % count + 1]
        function request() return own end
    else
        function request()
            next_index = next_index % count + 1
            return requests[next_index]
        end
    end
    if pause > 0 then
        -- Spread evenly between half and one and a half times the mean, so that connections do not march in step.
        local low, high = math.floor(pause * 0.5), math.ceil(pause * 1.5)
        math.randomseed(thread_number + 1)
        function delay() return math.random(low, high) end
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests":%d,"microseconds":%d,"bytes":%d,"p50":%d,"p99":%d,"max":%d,"connect":%d,"read":%d,"write":%d,'
            .. '"timeout":%d,"status":%d}\n',
        summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), latency.max,
        errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
