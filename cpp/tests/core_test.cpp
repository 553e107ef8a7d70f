// Every operation of the core on odd sizes against plain double loops; built with sanitizers by `make sanitize`.
// FANIN_CPU_ISA chooses the instruction set; exits with 77 where this processor cannot run it.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "fanin/among.h"
#include "fanin/instruction_set.h"
#include "fanin/largest.h"
#include "fanin/operations.h"
#include "oracle.h"

namespace {

using oracle::Problem;
using oracle::Shape;

int failures = 0;
const Shape* current = nullptr;

void check(bool condition, const char* what) {
  if (condition) return;
  ++failures;
  std::fprintf(stderr, "FAILED %s", what);
  if (current != nullptr) {
    std::fprintf(stderr, " at L=%lld D=%lld F=%lld G=%lld B=%lld, clusters of %lld",
                 static_cast<long long>(current->labels), static_cast<long long>(current->inputs),
                 static_cast<long long>(current->fan_in), static_cast<long long>(current->group),
                 static_cast<long long>(current->rows), static_cast<long long>(current->cluster));
    std::fprintf(stderr, ", %lld bytes a weight", static_cast<long long>(fanin::bytes_of(current->storage)));
  }
  std::fputc('\n', stderr);
}

// Agreement to a share of the largest true value.
template <class Actual>
void check_close(const std::vector<Actual>& actual, const std::vector<double>& truth, const char* what) {
  double largest = 1.0, worst = 0.0;
  for (const double value : truth) largest = std::fmax(largest, std::fabs(value));
  check(actual.size() == truth.size(), what);
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double error = std::fabs(static_cast<double>(actual[i]) - truth[i]);
    worst = error <= worst ? worst : error;  // NaN counts as worst
  }
  check(worst <= 1e-5 * largest, what);
}

// The weights are the true ones, or neighbours of them in the format that they are stored in.
void check_weights(const Problem& p, const std::vector<double>& truth, const char* what) {
  const std::vector<float> weights = p.weights();
  if (p.codes.empty()) {
    check_close(weights, truth, what);
    return;
  }
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double error = std::fabs(static_cast<double>(weights[i]) - truth[i]);
    check(error <= 1.001 * oracle::spacing(p.shape.storage, truth[i]) + 1e-5, what);
  }
}

std::vector<float> to_float(const std::vector<double>& values) { return {values.begin(), values.end()}; }

void test_autograd_operations(const Shape& shape, int threads) {
  Problem p(shape);
  const auto area = static_cast<std::size_t>(shape.rows * shape.labels);
  std::vector<float> z(area), dx(p.x.size()), dw(p.weight.size());
  fanin::forward(p.layer(), p.x.data(), shape.rows, p.shared(), z.data(), threads);
  check_close(z, oracle::logits(p), "forward");
  std::vector<double> gradient;
  oracle::loss(p, fanin::Loss::bce, gradient);
  const oracle::Gradients truth = oracle::backward(p, gradient);
  const std::vector<float> grad = to_float(gradient);
  fanin::grad_input(p.layer(), grad.data(), shape.rows, dx.data(), threads);
  check_close(dx, truth.dx, "grad_input");
  fanin::grad_weight(p.layer(), grad.data(), p.x.data(), shape.rows, dw.data(), threads);
  check_close(dw, truth.dw, "grad_weight");
}

void test_train_step(const Shape& shape, fanin::Loss loss, bool emphasised, int threads) {
  Problem p(shape);
  if (emphasised) p.emphasise();
  std::vector<double> gradient;
  const double scale = 0.5, true_loss = scale * oracle::loss(p, loss, gradient);
  for (double& value : gradient) value *= scale;
  const oracle::Gradients truth = oracle::backward(p, gradient);
  fanin::UpdateRule rule{};
  rule.rule = fanin::Rule::sgd;
  rule.learning_rate = 0.25f;
  rule.momentum = 0.5f;
  rule.weight_decay = 0.125f;
  std::vector<float> velocity(p.weight.size(), 2.0f), bias_velocity(p.bias.size(), 0.0f), dx(p.x.size());
  std::vector<float> dscores(p.scores.size(), std::numeric_limits<float>::quiet_NaN());
  std::vector<double> true_weight, true_bias;
  for (std::size_t i = 0; i < truth.dw.size(); ++i) {
    true_weight.push_back(p.weight[i] - 0.25 * (1.0 + truth.dw[i] + 0.125 * p.weight[i]));
  }
  for (std::size_t i = 0; i < truth.db.size(); ++i) true_bias.push_back(p.bias[i] - 0.25 * truth.db[i]);
  const fanin::Moments moments{{velocity.data(), nullptr}, {bias_velocity.data(), nullptr}};
  const double value = fanin::train_step(p.layer(), moments, p.x.data(), shape.rows, p.positives(), loss, rule,
                                         static_cast<float>(scale), p.shared(), dx.data(),
                                         shape.cluster > 0 ? dscores.data() : nullptr, threads);
  check(std::fabs(value - true_loss) <= 1e-5 * std::fmax(1.0, true_loss), "loss value");
  std::vector<float> dense_dx;  // the other inputs have no gradient
  std::vector<double> true_dense_dx;
  for (std::size_t i = 0; i < dx.size(); ++i) {
    if (static_cast<std::int64_t>(i) % shape.inputs >= shape.inputs - shape.sparse) continue;
    dense_dx.push_back(dx[i]);
    true_dense_dx.push_back(truth.dx[i]);
  }
  check_close(dense_dx, true_dense_dx, "dx of the step");
  check_close(dscores, truth.dscores, "gradient of the shared scores");
  check_weights(p, true_weight, "weights after the step");
  check_close(p.bias, true_bias, "biases after the step");
}

// One AdamW step from zero moments moves every weight by about the learning rate against its gradient's sign.
void test_adamw(const Shape& shape) {
  Problem p(shape);
  std::vector<double> gradient;
  oracle::loss(p, fanin::Loss::bce, gradient);
  const std::vector<double> true_dw = oracle::backward(p, gradient).dw;
  fanin::UpdateRule rule{};
  rule.rule = fanin::Rule::adamw;
  rule.learning_rate = 0.01f;
  rule.beta2 = 0.999f;
  rule.eps = 1e-3f;
  rule.one_minus_beta1 = 0.1f;
  rule.one_minus_beta2 = 0.001f;
  rule.step_size = 0.01f / 0.1f;
  rule.root_correction = 1.0f / std::sqrt(0.001f);
  std::vector<float> mean(p.weight.size()), variance(p.weight.size()), dx(p.x.size());
  std::vector<double> true_weight;
  for (std::size_t i = 0; i < true_dw.size(); ++i) {
    true_weight.push_back(p.weight[i] - 0.01 * true_dw[i] / (std::fabs(true_dw[i]) + 1e-3));
  }
  fanin::Layer layer = p.layer();
  std::vector<float> bias_mean(p.bias.size()), bias_variance(p.bias.size());
  fanin::train_step(layer, {{mean.data(), variance.data()}, {bias_mean.data(), bias_variance.data()}}, p.x.data(),
                    shape.rows, p.positives(), fanin::Loss::bce, rule, 1.0f, {}, dx.data(), nullptr, 2);
  check_weights(p, true_weight, "weights after AdamW");
}

void test_topk(const Shape& shape, bool exclude, int threads) {
  Problem p(shape);
  const auto L = static_cast<std::size_t>(shape.labels);
  const std::int64_t k = std::min<std::int64_t>(shape.labels, 7);
  std::vector<float> z(static_cast<std::size_t>(shape.rows) * L), scores(static_cast<std::size_t>(shape.rows * k));
  std::vector<std::int64_t> labels(scores.size());
  const fanin::Csr positives = p.positives();
  fanin::forward(p.layer(), p.x.data(), shape.rows, p.shared(), z.data(), 1);
  fanin::topk(p.layer(), p.x.data(), shape.rows, p.shared(), k, exclude ? &positives : nullptr, scores.data(),
              labels.data(), threads);
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    std::vector<std::pair<float, std::int64_t>> order;
    for (std::int64_t label = 0; label < shape.labels; ++label) {
      if (exclude && p.is_positive(row, label)) continue;
      order.emplace_back(-z[static_cast<std::size_t>(row) * L + static_cast<std::size_t>(label)], label);
    }
    std::sort(order.begin(), order.end());
    for (std::int64_t i = 0; i < k; ++i) {
      const auto at = static_cast<std::size_t>(row * k + i);
      const bool found = i < static_cast<std::int64_t>(order.size());
      check(labels[at] == (found ? order[static_cast<std::size_t>(i)].second : -1), "top-k label");
      // Skipped inputs regroup a sum: equal but for rounding then.
      const float tolerance = shape.sparse > 0 ? 1e-5f * std::sqrt(static_cast<float>(shape.fan_in)) : 0.0f;
      check(found ? std::fabs(scores[at] + order[static_cast<std::size_t>(i)].first) <= tolerance
                  : std::isinf(scores[at]),
            "top-k score");
    }
  }
}

// Three clusters of units of two groups; every row chooses some, one row none. Vectors of all inputs are shared by 5
// labels.
void test_topk_among(const Shape& shape, bool exclude, int threads) {
  Problem p(shape);
  const std::int64_t L = shape.labels, D = shape.inputs, unit = 2 * shape.group, units = (L + unit - 1) / unit;
  const std::int64_t k = std::min<std::int64_t>(L, 7), beam = 2, vectors = (L + 4) / 5;
  std::vector<std::int32_t> members;
  for (std::int64_t u = units - 1; u >= 0; --u) members.push_back(static_cast<std::int32_t>(u));
  const std::vector<std::int64_t> bounds{0, units / 3, units / 3, units};
  std::vector<std::int64_t> chosen;
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    chosen.push_back(row % 4 - 1);
    chosen.push_back(row % 4 == 0 ? -1 : row % 3 == (row % 4 - 1) ? -1 : row % 3);
  }
  std::vector<float> shared(static_cast<std::size_t>(vectors * D)), scores(static_cast<std::size_t>(shape.rows * k));
  for (std::size_t i = 0; i < shared.size(); ++i) shared[i] = static_cast<float>(i % 7) / 7.0f - 0.4f;
  const void* stored = p.codes.empty() ? static_cast<const void*>(shared.data()) : p.codes.data();
  const bool codes_reach = vectors * D <= L * shape.fan_in;  // weights stand in for vectors in fewer bits
  const bool with_vectors = p.codes.empty() || codes_reach;
  const fanin::SharedVectors extra = with_vectors ? fanin::SharedVectors{stored, shape.storage, D, 5}
                                                  : fanin::SharedVectors{};
  std::vector<std::int64_t> labels(scores.size());
  const fanin::Csr positives = p.positives();
  fanin::topk_among(p.layer(), p.x.data(), shape.rows, {members.data(), bounds.data(), chosen.data(), 3, beam, unit},
                    extra, k, exclude ? &positives : nullptr, scores.data(), labels.data(), threads);
  const std::vector<float> weights = p.weights();
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const auto score = [&](std::int64_t label) {
      double z = p.bias[static_cast<std::size_t>(label)];
      const auto input = [&](std::int64_t d) { return static_cast<double>(p.x[static_cast<std::size_t>(row * D + d)]); };
      for (std::int64_t f = 0; f < shape.fan_in; ++f) {
        z += weights[static_cast<std::size_t>(label * shape.fan_in + f)] * input(p.input_of(label, f));
      }
      for (std::int64_t d = 0; with_vectors && d < D; ++d) {
        const auto at = static_cast<std::size_t>(label / 5 * D + d);
        z += (p.codes.empty() ? shared[at] : weights[at]) * input(d);
      }
      return z;
    };
    std::vector<double> expected;
    for (std::int64_t label = 0; label < L; ++label) {
      const std::int64_t place = units - 1 - label / unit, cluster = place < bounds[1] ? 0 : 2;
      const auto first = static_cast<std::size_t>(row * beam);
      if (chosen[first] != cluster && chosen[first + 1] != cluster) continue;
      if (!exclude || !p.is_positive(row, label)) expected.push_back(score(label));
    }
    std::sort(expected.rbegin(), expected.rend());
    for (std::int64_t i = 0; i < k; ++i) {
      const auto at = static_cast<std::size_t>(row * k + i);
      if (i >= static_cast<std::int64_t>(expected.size())) {
        check(labels[at] == -1 && std::isinf(scores[at]), "no place left in top-k among clusters");
        continue;
      }
      const double tolerance = 1e-5 * std::sqrt(static_cast<double>(D)) * 8.0;
      check(std::fabs(scores[at] - expected[static_cast<std::size_t>(i)]) <= tolerance, "score among clusters");
      check(labels[at] >= 0 && std::fabs(score(labels[at]) - static_cast<double>(scores[at])) <= tolerance,
            "label among clusters");
    }
  }
}

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

// Columns that come in blocks of every length, with scores that are equal, infinite or not a number, are ranked as by
// sorting.
void test_largest_columns(fanin::Storage storage, int threads) {
  constexpr std::int64_t rows = 150, k = 19;
  fanin::LargestColumns largest(rows, k);
  std::vector<std::vector<std::pair<float, std::int64_t>>> expected(rows);
  std::int64_t width = 0;
  for (const std::int64_t count : {0, 3, 700, 64, 1, 129, 2000}) {
    std::vector<float> products(static_cast<std::size_t>(rows * count)), bias(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = i % 11 == 0 ? -INFINITY : static_cast<float>(i % 17);
    for (std::size_t i = 0; i < products.size(); ++i) {
      products[i] = i % 501 == 7 ? NAN : static_cast<float>(i * 37 % 113);
    }
    std::vector<std::uint16_t> codes;  // whole numbers below 256 are exact
    for (const float value : products) {
      codes.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
    }
    const bool wide = storage == fanin::Storage::fp32;
    largest.add(wide ? static_cast<const void*>(products.data()) : codes.data(), storage, bias.data(), count, threads);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t column = 0; column < count; ++column) {
        const auto at = static_cast<std::size_t>(row * count + column);
        const float score = products[at] + bias[static_cast<std::size_t>(column)];
        expected[static_cast<std::size_t>(row)].emplace_back(std::isnan(score) ? -INFINITY : -score, width + column);
      }
    }
    width += count;
  }
  std::vector<std::int64_t> columns(static_cast<std::size_t>(rows * k));
  largest.take(columns.data());
  for (std::int64_t row = 0; row < rows; ++row) {
    auto& ranked = expected[static_cast<std::size_t>(row)];
    std::sort(ranked.begin(), ranked.end());
    std::sort(columns.begin() + row * k, columns.begin() + (row + 1) * k);
    std::vector<std::int64_t> best;
    for (std::int64_t i = 0; i < k; ++i) best.push_back(ranked[static_cast<std::size_t>(i)].second);
    std::sort(best.begin(), best.end());
    check(std::equal(best.begin(), best.end(), columns.begin() + row * k), "the largest columns");
  }
}

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

void test_non_finite_values() {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const float value : bad) {
    for (const std::int64_t group : {1, 4}) {
      for (const fanin::Loss loss : {fanin::Loss::bce, fanin::Loss::squared_hinge}) {
        Problem p({9, 6, 6, group, 5});
        p.x[8] = value;  // row 1
        fanin::UpdateRule rule{};
        std::vector<float> dx(p.x.size()), z(45);
        fanin::forward(p.layer(), p.x.data(), 5, {}, z.data(), 1);
        for (std::size_t i = 0; i < z.size(); ++i) check(std::isfinite(z[i]) == (i / 9 != 1), "bad x in its logits");
        fanin::train_step(p.layer(), {}, p.x.data(), 5, p.positives(), loss, rule, 1.0f, {}, dx.data(), nullptr, 1);
        if (std::isnan(value)) {
          for (std::size_t i = 0; i < dx.size(); ++i) check(std::isnan(dx[i]) == (i / 6 == 1), "NaN in its row of dx");
        }
      }
    }
  }
}

void test_refused_positives() {
  Problem p({5, 4, 2, 1, 2});
  std::vector<float> dx(p.x.size());
  const std::vector<std::vector<std::int64_t>> indptrs = {{0, 1, 1}, {1, 1, 2}, {0, 2, 1}, {0, 1, 2}, {0, 1, 2}};
  const std::vector<std::vector<std::int64_t>> labels = {{0, 1}, {0, 1}, {0}, {0, 5}, {-1, 0}};
  for (std::size_t i = 0; i < labels.size(); ++i) {
    bool refused = false;
    try {
      const fanin::Csr csr{indptrs[i].data(), labels[i].data(), static_cast<std::int64_t>(labels[i].size())};
      fanin::train_step(p.layer(), {}, p.x.data(), 2, csr, fanin::Loss::bce, {}, 1.0f, {}, dx.data(), nullptr, 1);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    check(refused, "invalid positives are refused");
  }
}

}  // namespace

int main() {
  try {
    std::printf("instruction set: %s\n", fanin::kernels().name);
  } catch (const std::runtime_error& error) {
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  const Shape shapes[] = {{1, 1, 1, 1, 1},    {7, 5, 5, 1, 1},     {37, 19, 1, 1, 3},    {29, 16, 16, 16, 15},
                          {50, 33, 8, 3, 17}, {65, 64, 33, 16, 31}, {67, 48, 16, 32, 5},  {9, 40, 12, 2, 130},
                          {33, 70, 65, 1, 65}, {19, 66000, 3, 1, 2}, {19, 65536, 5, 4, 2}, {300, 12, 4, 1, 0}};
  for (Shape shape : shapes) {
    current = &shape;
    for (const std::int64_t cluster : {std::int64_t{0}, std::int64_t{1}, std::int64_t{5}, shape.labels}) {
      shape.cluster = std::min(cluster, shape.labels);
      for (const int threads : {1, 3}) {
        test_autograd_operations(shape, threads);
        for (const bool emphasised : {false, true}) {
          test_train_step(shape, fanin::Loss::bce, emphasised, threads);
          test_train_step(shape, fanin::Loss::squared_hinge, emphasised, threads);
        }
        for (const bool exclude : {false, true}) test_topk(shape, exclude, threads);
        shape.sparse = shape.inputs - shape.inputs / 3;
        for (const bool emphasised : {false, true}) {
          test_train_step(shape, fanin::Loss::bce, emphasised, threads);
          test_train_step(shape, fanin::Loss::squared_hinge, emphasised, threads);
        }
        test_topk(shape, true, threads);
        shape.sparse = 0;
      }
    }
    shape.cluster = 0;
    for (const bool exclude : {false, true}) test_topk_among(shape, exclude, exclude ? 3 : 1);
    test_adamw(shape);
    test_rewiring(shape, shape.inputs);
    test_rewiring(shape, (shape.inputs + 1) / 2);
    for (const fanin::Storage storage : {fanin::Storage::bf16, fanin::Storage::fp8}) {
      shape.storage = storage;
      for (const int threads : {1, 3}) {
        test_autograd_operations(shape, threads);
        test_train_step(shape, fanin::Loss::bce, false, threads);
        test_topk(shape, true, threads);
        shape.sparse = shape.inputs - shape.inputs / 3;
        test_train_step(shape, fanin::Loss::squared_hinge, false, threads);
        shape.sparse = 0;
      }
      test_topk_among(shape, true, 2);
      test_adamw(shape);
      test_rewiring(shape, shape.inputs);
    }
  }
  current = nullptr;
  for (const fanin::Storage storage : {fanin::Storage::bf16, fanin::Storage::fp8}) {
    for (const int threads : {1, 3}) test_rounding(storage, threads);
  }
  for (const int threads : {1, 3}) {
    test_largest_columns(fanin::Storage::fp32, threads);
    test_largest_columns(fanin::Storage::bf16, threads);
  }
  test_non_finite_values();
  test_refused_positives();
  std::printf("%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}
