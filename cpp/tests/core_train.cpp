// Products, their gradients and training steps on odd sizes against plain double loops.
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "checks.h"
#include "fanin/operations.h"
#include "oracle.h"

namespace {

using checks::check;
using checks::check_close;
using checks::check_weights;
using oracle::Problem;
using oracle::Shape;

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
  return checks::run([] {
    checks::for_shapes([](Shape& shape) {
      checks::for_clusters_and_threads(shape, [&](int threads) {
        test_autograd_operations(shape, threads);
        for (const std::int64_t sparse : {std::int64_t{0}, shape.inputs - shape.inputs / 3}) {
          shape.sparse = sparse;
          for (const bool emphasised : {false, true}) {
            test_train_step(shape, fanin::Loss::bce, emphasised, threads);
            test_train_step(shape, fanin::Loss::squared_hinge, emphasised, threads);
          }
        }
        shape.sparse = 0;
      });
      test_adamw(shape);
      for (const fanin::Storage storage : checks::kFewerBits) {
        shape.storage = storage;
        for (const int threads : {1, 3}) {
          test_autograd_operations(shape, threads);
          test_train_step(shape, fanin::Loss::bce, false, threads);
          shape.sparse = shape.inputs - shape.inputs / 3;
          test_train_step(shape, fanin::Loss::squared_hinge, false, threads);
          shape.sparse = 0;
        }
        test_adamw(shape);
      }
    });
    test_non_finite_values();
    test_refused_positives();
  });
}
