// Random index sets, bit for bit those of fanin/kernels/drawing.py, which defines them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace fanin {

// The splitmix64 finaliser of value + golden ratio.
inline std::uint64_t mix(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

// Draws random subsets, remembering between calls only its scratch memory.
class SubsetDrawer {
 public:
  SubsetDrawer(std::uint64_t seed, std::int64_t largest_population)
      : seed_(seed), taken_(static_cast<std::size_t>(largest_population), false) {}

  // The subset of [0, population) for set number `set`, in the order of the draws (Floyd's algorithm).
  const std::vector<std::int64_t>& draw(std::int64_t set, std::int64_t size, std::int64_t population) {
    const std::uint64_t key = mix(seed_ + mix(static_cast<std::uint64_t>(set)));
    chosen_.clear();
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t last = population - size + i;
      const std::uint64_t high = mix(key + static_cast<std::uint64_t>(i)) >> 32;
      std::int64_t value = static_cast<std::int64_t>((high * static_cast<std::uint64_t>(last + 1)) >> 32);
      if (taken_[static_cast<std::size_t>(value)]) value = last;
      taken_[static_cast<std::size_t>(value)] = true;
      chosen_.push_back(value);
    }
    for (const std::int64_t value : chosen_) taken_[static_cast<std::size_t>(value)] = false;
    return chosen_;
  }

 private:
  std::uint64_t seed_;
  std::vector<bool> taken_;
  std::vector<std::int64_t> chosen_;
};

}  // namespace fanin
