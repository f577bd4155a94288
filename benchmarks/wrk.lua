-- Sends the requests of a file in rotation; prints what wrk counted as one line of JSON.
-- The file holds whole HTTP requests, each after its length (4 bytes, little-endian).

local requests, count, current = {}, 0, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  while true do
    local size = file:read(4)
    if not size then break end
    local a, b, c, d = size:byte(1, 4)
    count = count + 1
    requests[count] = file:read(a + 256 * (b + 256 * (c + 256 * d)))
  end
  file:close()
end

function request()
  current = current % count + 1
  return requests[current]
end

function done(summary, latency, _)
  local e = summary.errors
  print(string.format(
    'RESULT {"requests": %d, "duration_us": %d, "bad": %d, "lost": %d, ' ..
    '"p50_us": %d, "p90_us": %d, "p99_us": %d, "p999_us": %d, "max_us": %d}',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency:percentile(99.9), latency.max))
end
