// Stochastic rounding to fewer bits, and back.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "checks.h"
#include "fanin/operations.h"
#include "oracle.h"

namespace {

using checks::check;

// Values of every size go to a neighbour in the format, and come back from there as what they went to; the numbers of
// the elements pass 2^32 on the way.
void test_rounding(fanin::Storage storage, int threads) {
  constexpr std::int64_t n = 70'001;
  std::vector<float> values;
  for (std::int64_t i = 0; i < n; ++i) {
    values.push_back(std::ldexp(1.0f + static_cast<float>(i % 97) / 97.0f, static_cast<int>(i % 20) - 12));
    if (i % 2 == 1) values.back() = -values.back();
  }
  values[5] = std::numeric_limits<float>::quiet_NaN();
  values[6] = 3e38f;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(n * fanin::bytes_of(storage)));
  fanin::round_into(values.data(), n, storage, 0x123456789ABCDEFu, (std::int64_t{1} << 32) - 35'000, codes.data(),
                    threads);
  std::vector<float> widened(values.size());
  fanin::widen_into(codes.data(), n, storage, widened.data(), threads);
  std::int64_t moved = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float rounded = oracle::decoded(storage, codes.data(), i);
    check(widened[i] == rounded || (std::isnan(widened[i]) && std::isnan(rounded)), "widened as decoded");
    if (i == 5 || i == 6) {
      const float largest = storage == fanin::Storage::bf16 ? 3.3895314e38f : 448.0f;
      check(i == 5 ? std::isnan(rounded) : rounded <= largest, "what is not finite, and saturation");
      continue;
    }
    check(std::fabs(rounded - values[i]) < oracle::spacing(storage, values[i]), "a neighbour in the format");
    moved += std::fabs(rounded) > std::fabs(values[i]) ? 1 : 0;
  }
  check(moved > n / 4 && moved < 3 * n / 4, "about as many are rounded up as down");
}

}  // namespace

int main() {
  return checks::run([] {
    for (const fanin::Storage storage : checks::kFewerBits) {
      for (const int threads : {1, 3}) test_rounding(storage, threads);
    }
  });
}
