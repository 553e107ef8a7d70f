// Every operation of the core on values of random bits and on positives that are partly wrong: nothing may step outside
// its arrays, and nothing but invalid positives is refused. Built with sanitizers by `make sanitize`, which see the rest.
// The first argument is how many inputs to try.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "fanin/instruction_set.h"
#include "fanin/operations.h"
#include "oracle.h"

namespace {

using oracle::Problem;
using oracle::Shape;

class Draw {
 public:
  explicit Draw(std::uint32_t seed) : bits_(seed) {}

  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(bits_() % static_cast<std::uint32_t>(n)); }
  bool one_in(std::int64_t n) { return below(n) == 0; }
  std::uint8_t byte() { return static_cast<std::uint8_t>(bits_()); }

  float value() {
    constexpr float kOdd[] = {0.0f, -0.0f, 1e-45f, 1e38f, -3e38f, std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()};
    if (one_in(2)) return kOdd[below(8)];
    const auto any = static_cast<std::uint32_t>(bits_());
    float found;
    std::memcpy(&found, &any, sizeof(found));
    return found;
  }

 private:
  std::mt19937 bits_;
};

Shape any_shape(Draw& draw) {
  Shape shape{1 + draw.below(40), 1 + draw.below(40), 1, 1 + draw.below(20), draw.below(20)};
  if (draw.one_in(200)) shape.inputs = 65530 + draw.below(20);  // on both sides of where the index gets wider
  shape.fan_in = 1 + draw.below(std::min<std::int64_t>(shape.inputs, 40));
  shape.cluster = draw.one_in(2) ? 1 + draw.below(shape.labels) : 0;
  shape.sparse = draw.one_in(2) ? draw.below(shape.inputs + 1) : 0;
  constexpr fanin::Storage kStorage[] = {fanin::Storage::fp32, fanin::Storage::bf16, fanin::Storage::fp8};
  shape.storage = kStorage[draw.below(3)];
  return shape;
}

void spoil_values(Draw& draw, Problem& p) {
  for (auto* values : {&p.weight, &p.bias, &p.x, &p.scores}) {
    if (draw.one_in(2)) continue;
    for (float& value : *values) {
      if (draw.one_in(4)) value = draw.value();
    }
  }
  if (draw.one_in(2)) {
    for (std::uint8_t& code : p.codes) code = draw.byte();
  }
}

// Gives whether they are still valid.
bool spoil_positives(Draw& draw, Problem& p) {
  const std::int64_t labels = p.shape.labels;
  const std::int64_t wrong[] = {-1, labels, labels + 1, std::numeric_limits<std::int64_t>::max(),
                                std::numeric_limits<std::int64_t>::min()};
  if (draw.one_in(3) && !p.indices.empty()) {
    p.indices[static_cast<std::size_t>(draw.below(static_cast<std::int64_t>(p.indices.size())))] = wrong[draw.below(5)];
    return false;
  }
  if (draw.one_in(3)) {
    const auto at = static_cast<std::size_t>(draw.below(static_cast<std::int64_t>(p.indptr.size())));
    p.indptr[at] = p.indptr.back() + 1 + draw.below(3);
    return false;
  }
  return true;
}

fanin::UpdateRule any_update(Draw& draw) {
  fanin::UpdateRule rule{};
  rule.rule = draw.one_in(2) ? fanin::Rule::sgd : fanin::Rule::adamw;
  rule.learning_rate = draw.one_in(4) ? draw.value() : 0.1f;
  rule.weight_decay = draw.one_in(4) ? draw.value() : 0.1f;
  rule.momentum = draw.one_in(2) ? 0.5f : 0.0f;
  rule.beta2 = 0.999f;
  rule.eps = 1e-8f;
  rule.one_minus_beta1 = 0.1f;
  rule.one_minus_beta2 = 0.001f;
  rule.step_size = rule.learning_rate;
  rule.root_correction = 1.0f;
  return rule;
}

void run(Draw& draw, Problem& p, const fanin::Csr& positives) {
  const Shape& shape = p.shape;
  const int threads = draw.one_in(8) ? 3 : 1;
  const auto area = static_cast<std::size_t>(shape.rows * shape.labels);
  std::vector<float> z(area), dx(p.x.size()), dscores(p.scores.size());
  std::vector<float> moments[4] = {std::vector<float>(p.weight.size()), std::vector<float>(p.weight.size()),
                                   std::vector<float>(p.bias.size()), std::vector<float>(p.bias.size())};
  const fanin::Moments state{{moments[0].data(), moments[1].data()}, {moments[2].data(), moments[3].data()}};
  fanin::forward(p.layer(), p.x.data(), shape.rows, p.shared(), z.data(), threads);
  const fanin::Loss loss = draw.one_in(2) ? fanin::Loss::bce : fanin::Loss::squared_hinge;
  fanin::train_step(p.layer(), state, p.x.data(), shape.rows, positives, loss, any_update(draw), 1.0f, p.shared(),
                    dx.data(), shape.cluster > 0 ? dscores.data() : nullptr, threads);
  const std::int64_t k = 1 + draw.below(shape.labels);
  std::vector<float> scores(static_cast<std::size_t>(shape.rows * k));
  std::vector<std::int64_t> labels(scores.size());
  fanin::topk(p.layer(), p.x.data(), shape.rows, p.shared(), k, draw.one_in(2) ? &positives : nullptr, scores.data(),
              labels.data(), threads);
  for (const std::int64_t label : labels) {
    if (label < -1 || label >= shape.labels) throw std::logic_error("top-k gave no label");
  }
  std::vector<std::int32_t> replaced(static_cast<std::size_t>(p.sets));
  const std::int64_t inputs = shape.fan_in + draw.below(shape.inputs - shape.fan_in + 1);
  fanin::rewire(p.layer(), state, draw.below(shape.fan_in + 1), draw.one_in(2) ? draw.value() : 0.5, 11, inputs,
                replaced.data(), threads);
  for (std::int64_t label = 0; label < shape.labels; ++label) {
    for (std::int64_t f = 0; f < shape.fan_in; ++f) {
      const std::int64_t input = p.input_of(label, f);
      if (input < 0 || input >= shape.inputs) throw std::logic_error("rewiring gave no input");
    }
  }
}

// Whether the positives were refused.
bool refused(Draw& draw, Problem& p) {
  try {
    run(draw, p, p.positives());
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    std::printf("instruction set: %s\n", fanin::kernels().name);
  } catch (const std::runtime_error& error) {
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  const long inputs = count > 1 ? std::atol(arguments[1]) : 20000;
  for (long i = 0; i < inputs; ++i) {
    Draw draw(static_cast<std::uint32_t>(i));
    Problem p(any_shape(draw));
    spoil_values(draw, p);
    const bool valid = spoil_positives(draw, p);
    if (refused(draw, p) == valid) {
      std::fprintf(stderr, "FAILED input %ld: positives are %s\n", i, valid ? "valid" : "not valid");
      return 1;
    }
  }
  std::printf("%ld inputs\n", inputs);
  return 0;
}
