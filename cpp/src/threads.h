// A loop over a fixed number of parts, one thread each. Threads live for one call: nothing idles, nothing has to
// survive a fork, and the partition, hence every sum, is the same for the same number of threads.
#pragma once

#include <cstdint>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace fanin {

// Contiguous share of part i of n in [0, size).
struct Share {
  std::int64_t first;
  std::int64_t end;
};
inline Share share(std::int64_t size, int part, int parts) {
  const auto start = [&](int p) { return size / parts * p + size % parts * p / parts; };
  return {start(part), start(part + 1)};
}

// Calls body(part) for every part in [0, parts), each on a thread of its own, the first on the caller's. Rethrows
// the exception of the lowest part that threw.
template <class Body>
void run_parts(int parts, const Body& body) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(parts));
  const auto guarded = [&](int part) {
    try {
      body(part);
    } catch (...) {
      errors[static_cast<std::size_t>(part)] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(parts));
  int started = 1;
  try {
    for (; started < parts; ++started) threads.emplace_back(guarded, started);
  } catch (const std::system_error&) {
    // No more threads to be had: the caller does the rest, with the same partition.
  }
  guarded(0);
  for (int part = started; part < parts; ++part) guarded(part);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace fanin
