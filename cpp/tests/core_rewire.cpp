// Rewiring on odd sizes: as many slots as it says, inputs that were not in use, zero weights and state there.
#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

#include "checks.h"
#include "fanin/operations.h"
#include "oracle.h"

namespace {

using checks::check;
using oracle::Problem;
using oracle::Shape;

void test_rewiring(const Shape& shape, std::int64_t inputs_to_draw) {
  Problem p(shape);
  const std::int64_t limit = shape.fan_in;
  std::vector<std::int32_t> replaced(static_cast<std::size_t>(p.sets), -1);
  std::vector<float> moment(p.weight.size(), 1.0f);
  const Problem before = p;
  fanin::rewire(p.layer(), {{moment.data(), nullptr}, {nullptr, nullptr}}, limit, 0.5, 11, inputs_to_draw,
                replaced.data(), 3);
  const std::vector<float> weights = p.weights();
  for (std::int64_t set = 0; set < p.sets; ++set) {
    const std::int64_t label = set * shape.group;
    std::set<std::int64_t> inputs, used;
    std::int64_t changed = 0;
    for (std::int64_t f = 0; f < shape.fan_in; ++f) used.insert(before.input_of(label, f));
    for (std::int64_t f = 0; f < shape.fan_in; ++f) {
      const std::int64_t input = p.input_of(label, f);
      inputs.insert(input);
      if (input == before.input_of(label, f)) continue;
      ++changed;
      check(used.count(input) == 0, "regrown input was in use");
      check(input < inputs_to_draw, "regrown input is one of the first");
      for (std::int64_t l = label; l < std::min(label + shape.group, shape.labels); ++l) {
        const auto at = static_cast<std::size_t>(l * shape.fan_in + f);
        check(weights[at] == 0.0f && moment[at] == 0.0f, "regrown slot is zero");
      }
    }
    check(static_cast<std::int64_t>(inputs.size()) == shape.fan_in, "no duplicates after rewiring");
    check(changed == replaced[static_cast<std::size_t>(set)] && changed <= limit, "number of replaced slots");
  }
}

}  // namespace

int main() {
  return checks::run([] {
    checks::for_shapes([](Shape& shape) {
      test_rewiring(shape, shape.inputs);
      test_rewiring(shape, (shape.inputs + 1) / 2);
      for (const fanin::Storage storage : checks::kFewerBits) {
        shape.storage = storage;
        test_rewiring(shape, shape.inputs);
      }
    });
  });
}
