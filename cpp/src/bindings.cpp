// The Python module fanin.kernels._cpu. Arrays come in through DLPack; fanin/kernels/cpu.py checks their shapes and
// dtypes with messages for people, here the types of the arguments refuse what slipped through.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fanin/among.h"
#include "fanin/instruction_set.h"
#include "fanin/largest.h"
#include "fanin/operations.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Matrix = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using AnyMatrix = nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using AnyVector = nb::ndarray<nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using LongVector = nb::ndarray<std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using LongMatrix = nb::ndarray<std::int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using IntVector = nb::ndarray<std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

std::int64_t size(const auto& array, std::size_t dimension) {
  return static_cast<std::int64_t>(array.shape(dimension));
}

bool is_wide(const AnyMatrix& index) {
  require(index.dtype() == nb::dtype<std::uint16_t>() || index.dtype() == nb::dtype<std::int32_t>(),
          "index has to be uint16 or int32");
  return index.dtype() == nb::dtype<std::int32_t>();
}

// Codes of bfloat16 come as uint16 and those of float8 as uint8: not every version of DLPack has the types themselves.
fanin::Storage storage_of(const auto& array) {
  if (array.dtype() == nb::dtype<std::uint16_t>()) return fanin::Storage::bf16;
  if (array.dtype() == nb::dtype<std::uint8_t>()) return fanin::Storage::fp8;
  require(array.dtype() == nb::dtype<float>(), "weights have to be float32, or uint16 or uint8 codes");
  return fanin::Storage::fp32;
}

// A layer together with the arrays that it views.
struct LayerArrays {
  AnyMatrix weight;
  AnyMatrix index;
  std::optional<Vector> bias;
  fanin::Layer layer;

  LayerArrays(AnyMatrix w, AnyMatrix i, std::optional<Vector> b, std::int64_t group, std::int64_t inputs,
              std::int64_t dense_inputs)
      : weight(std::move(w)), index(std::move(i)), bias(std::move(b)) {
    layer.weight = weight.data();
    layer.storage = storage_of(weight);
    layer.index = index.data();
    layer.wide_index = is_wide(index);
    layer.bias = bias ? bias->data() : nullptr;
    layer.labels = size(weight, 0);
    layer.inputs = inputs;
    layer.fan_in = size(weight, 1);
    layer.group = group;
    layer.sets = size(index, 0);
    layer.dense_inputs = dense_inputs;
    require(group >= 1 && layer.fan_in >= 1 && layer.labels >= 1 && layer.fan_in <= inputs, "empty layer, or F > D");
    require(dense_inputs >= 0 && dense_inputs <= inputs, "dense inputs are 0 to D");
    require(layer.sets == (layer.labels + group - 1) / group && size(index, 1) == layer.fan_in,
            "index has to be [ceil(L / G), F]");
    require(!bias || size(*bias, 0) == layer.labels, "bias has to be [L]");
  }
};

fanin::Moments moments_of(const fanin::Layer& layer, const std::vector<Matrix>& weight,
                          const std::vector<Vector>& bias) {
  fanin::Moments moments{};
  require(weight.size() <= 2 && bias.size() <= 2, "at most two moments");
  for (std::size_t i = 0; i < weight.size(); ++i) {
    require(size(weight[i], 0) == layer.labels && size(weight[i], 1) == layer.fan_in, "moments have to be [L, F]");
    moments.weight[i] = weight[i].data();
  }
  for (std::size_t i = 0; i < bias.size(); ++i) {
    require(size(bias[i], 0) == layer.labels, "moments of the bias have to be [L]");
    moments.bias[i] = bias[i].data();
  }
  return moments;
}

fanin::Csr csr_of(const LongVector& indptr, const LongVector& indices, std::int64_t rows) {
  require(size(indptr, 0) == rows + 1, "indptr has to be [B + 1]");
  return {indptr.data(), indices.data(), size(indices, 0)};
}

void check_matrix(const Matrix& matrix, std::int64_t rows, std::int64_t columns) {
  require(size(matrix, 0) == rows && size(matrix, 1) == columns, "an array has the wrong shape");
}

fanin::SharedScores shared_of(const fanin::Layer& layer, const std::optional<Matrix>& scores,
                              std::int64_t cluster_size, std::int64_t rows) {
  if (!scores) return {};
  require(cluster_size >= 1 && cluster_size <= layer.labels, "a cluster has to have 1 to L labels");
  check_matrix(*scores, (layer.labels + cluster_size - 1) / cluster_size, rows);
  return {scores->data(), cluster_size};
}

void forward(const LayerArrays& arrays, const Matrix& x, const std::optional<Matrix>& shared_scores,
             std::int64_t cluster_size, const Matrix& logits, int threads) {
  const std::int64_t B = size(x, 0);
  check_matrix(x, B, arrays.layer.inputs);
  check_matrix(logits, B, arrays.layer.labels);
  const fanin::SharedScores shared = shared_of(arrays.layer, shared_scores, cluster_size, B);
  const nb::gil_scoped_release release;
  fanin::forward(arrays.layer, x.data(), B, shared, logits.data(), threads);
}

void grad_input(const LayerArrays& arrays, const Matrix& grad, const Matrix& dx, int threads) {
  const std::int64_t B = size(grad, 0);
  check_matrix(grad, B, arrays.layer.labels);
  check_matrix(dx, B, arrays.layer.inputs);
  const nb::gil_scoped_release release;
  fanin::grad_input(arrays.layer, grad.data(), B, dx.data(), threads);
}

void grad_weight(const LayerArrays& arrays, const Matrix& grad, const Matrix& x, const Matrix& dw, int threads) {
  const std::int64_t B = size(grad, 0);
  check_matrix(grad, B, arrays.layer.labels);
  check_matrix(x, B, arrays.layer.inputs);
  check_matrix(dw, arrays.layer.labels, arrays.layer.fan_in);
  const nb::gil_scoped_release release;
  fanin::grad_weight(arrays.layer, grad.data(), x.data(), B, dw.data(), threads);
}

fanin::UpdateRule sgd(double learning_rate, double momentum, double weight_decay) {
  fanin::UpdateRule rule{};
  rule.rule = fanin::Rule::sgd;
  rule.learning_rate = static_cast<float>(learning_rate);
  rule.momentum = static_cast<float>(momentum);
  rule.weight_decay = static_cast<float>(weight_decay);
  return rule;
}

fanin::UpdateRule adamw(double learning_rate, double beta1, double beta2, double eps, double weight_decay,
                        std::int64_t step) {
  fanin::UpdateRule rule{};
  rule.rule = fanin::Rule::adamw;
  rule.learning_rate = static_cast<float>(learning_rate);
  rule.weight_decay = static_cast<float>(weight_decay);
  rule.beta2 = static_cast<float>(beta2);
  rule.eps = static_cast<float>(eps);
  rule.one_minus_beta1 = static_cast<float>(1.0 - beta1);
  rule.one_minus_beta2 = static_cast<float>(1.0 - beta2);
  rule.step_size = static_cast<float>(learning_rate / (1.0 - std::pow(beta1, static_cast<double>(step))));
  rule.root_correction = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(beta2, static_cast<double>(step))));
  return rule;
}

double train_step(const LayerArrays& arrays, const std::vector<Matrix>& weight_moments,
                  const std::vector<Vector>& bias_moments, const Matrix& x, const LongVector& indptr,
                  const LongVector& indices, bool squared_hinge, const fanin::UpdateRule& update, double scale,
                  const std::optional<Matrix>& shared_scores, std::int64_t cluster_size, const Matrix& dx,
                  const std::optional<Matrix>& shared_grad, int threads, const std::optional<Vector>& weights,
                  const std::optional<Vector>& margins) {
  const fanin::Layer& layer = arrays.layer;
  const std::int64_t B = size(x, 0);
  check_matrix(x, B, layer.inputs);
  check_matrix(dx, B, layer.inputs);
  const fanin::Moments moments = moments_of(layer, weight_moments, bias_moments);
  const std::size_t kept = update.rule == fanin::Rule::adamw ? 2 : update.momentum != 0.0f ? 1 : 0;
  require(weight_moments.size() == kept && bias_moments.size() == (layer.bias ? kept : 0),
          "the number of moments does not fit the update rule");
  fanin::Csr positives = csr_of(indptr, indices, B);
  require(!weights || size(*weights, 0) == positives.entries, "weights have to be one a positive");
  require(!margins || size(*margins, 0) == positives.entries, "margins have to be one a positive");
  positives.weights = weights ? weights->data() : nullptr;
  positives.margins = margins ? margins->data() : nullptr;
  const fanin::SharedScores shared = shared_of(layer, shared_scores, cluster_size, B);
  require(shared_scores.has_value() == shared_grad.has_value(), "shared scores need an array for their gradient");
  if (shared_grad) check_matrix(*shared_grad, size(*shared_scores, 0), B);
  const fanin::Loss loss = squared_hinge ? fanin::Loss::squared_hinge : fanin::Loss::bce;
  const nb::gil_scoped_release release;
  return fanin::train_step(layer, moments, x.data(), B, positives, loss, update, static_cast<float>(scale), shared,
                           dx.data(), shared_grad ? shared_grad->data() : nullptr, threads);
}

void topk(const LayerArrays& arrays, const Matrix& x, const std::optional<Matrix>& shared_scores,
          std::int64_t cluster_size, const std::optional<LongVector>& indptr, const std::optional<LongVector>& indices,
          const Matrix& scores, const LongMatrix& labels, int threads) {
  const std::int64_t B = size(x, 0), k = size(scores, 1);
  check_matrix(x, B, arrays.layer.inputs);
  check_matrix(scores, B, k);
  require(size(labels, 0) == B && size(labels, 1) == k && k >= 1, "labels have to be [B, k]");
  require(indptr.has_value() == indices.has_value(), "exclude needs indptr and indices");
  fanin::Csr exclude{};
  if (indptr) exclude = csr_of(*indptr, *indices, B);
  const fanin::SharedScores shared = shared_of(arrays.layer, shared_scores, cluster_size, B);
  const nb::gil_scoped_release release;
  fanin::topk(arrays.layer, x.data(), B, shared, k, indptr ? &exclude : nullptr, scores.data(), labels.data(), threads);
}

void topk_among(const LayerArrays& arrays, const Matrix& x, const IntVector& members, const LongVector& bounds,
                const LongMatrix& chosen, std::int64_t unit, const std::optional<AnyMatrix>& vectors,
                std::int64_t cluster_size, const std::optional<LongVector>& indptr,
                const std::optional<LongVector>& indices, const Matrix& scores, const LongMatrix& labels, int threads) {
  const fanin::Layer& layer = arrays.layer;
  const std::int64_t B = size(x, 0), k = size(scores, 1);
  check_matrix(x, B, layer.inputs);
  check_matrix(scores, B, k);
  require(size(labels, 0) == B && size(labels, 1) == k && k >= 1, "labels have to be [B, k]");
  require(size(chosen, 0) == B, "chosen has to be [B, beam]");
  require(size(bounds, 0) >= 1, "bounds have to be [clusters + 1]");
  require(unit >= 1 && unit % layer.group == 0, "a unit is one or more whole groups");
  require(indptr.has_value() == indices.has_value(), "exclude needs indptr and indices");
  fanin::SharedVectors shared{};
  if (vectors) {
    require(cluster_size >= 1 && size(*vectors, 0) == (layer.labels + cluster_size - 1) / cluster_size &&
                size(*vectors, 1) <= layer.inputs,
            "vectors have to be [ceil(L / cluster_size), at most D]");
    shared = {vectors->data(), storage_of(*vectors), size(*vectors, 1), cluster_size};
  }
  fanin::Csr exclude{};
  if (indptr) exclude = csr_of(*indptr, *indices, B);
  const fanin::ChosenClusters among{members.data(),      bounds.data(),   chosen.data(),
                                    size(bounds, 0) - 1, size(chosen, 1), unit};
  const nb::gil_scoped_release release;
  fanin::topk_among(layer, x.data(), B, among, shared, k, indptr ? &exclude : nullptr, scores.data(), labels.data(),
                    threads);
}

void add_columns(fanin::LargestColumns& largest, const AnyMatrix& products, const Vector& bias, int threads) {
  const std::int64_t count = size(products, 1);
  const fanin::Storage storage = storage_of(products);
  require(storage != fanin::Storage::fp8, "products have to be float32, or uint16 codes");
  require(size(products, 0) == largest.rows() && size(bias, 0) == count, "products have to be [B, biases]");
  require(largest.width() + count < std::int64_t{1} << 31, "too many columns");
  const nb::gil_scoped_release release;
  largest.add(products.data(), storage, bias.data(), count, threads);
}

void take_columns(const fanin::LargestColumns& largest, const LongMatrix& columns) {
  require(size(columns, 0) == largest.rows() && size(columns, 1) == largest.k(), "columns have to be [B, k]");
  largest.take(columns.data());
}

void draw_index(const AnyMatrix& index, std::int64_t inputs, std::uint64_t seed, int threads, std::int64_t first_set) {
  const bool wide = is_wide(index);
  const std::int64_t sets = size(index, 0), fan_in = size(index, 1);
  require(fan_in <= inputs && inputs <= (wide ? std::int64_t{1} << 31 : 65536), "F > D, or D beyond the index's dtype");
  require(first_set >= 0, "sets are numbered from 0");
  const nb::gil_scoped_release release;
  fanin::draw_index(sets, first_set, fan_in, inputs, seed, wide, index.data(), threads);
}

void widen_into(const AnyVector& codes, const Vector& out, int threads) {
  require(size(codes, 0) == size(out, 0), "as many codes as places");
  const fanin::Storage storage = storage_of(codes);
  require(storage != fanin::Storage::fp32, "uint16 or uint8 codes are widened");
  const nb::gil_scoped_release release;
  fanin::widen_into(codes.data(), size(codes, 0), storage, out.data(), threads);
}

void round_into(const Vector& values, std::uint64_t key, std::int64_t first, const AnyVector& out, int threads) {
  require(size(values, 0) == size(out, 0), "as many values as places");
  const fanin::Storage storage = storage_of(out);
  require(storage != fanin::Storage::fp32, "values are rounded to uint16 or uint8 codes");
  require(first >= 0, "elements are numbered from 0");
  const nb::gil_scoped_release release;
  fanin::round_into(values.data(), size(values, 0), storage, key, first, out.data(), threads);
}

void rewire(const LayerArrays& arrays, const std::vector<Matrix>& weight_moments, std::int64_t limit, double threshold,
            std::uint64_t seed, std::int64_t inputs, const IntVector& replaced, int threads) {
  const fanin::Layer& layer = arrays.layer;
  require(size(replaced, 0) == layer.sets, "replaced has to be [S]");
  require(limit <= layer.fan_in, "limit is at most F");
  require(inputs >= 1 && inputs <= layer.inputs, "inputs is 1 to D");
  const fanin::Moments moments = moments_of(layer, weight_moments, {});
  const nb::gil_scoped_release release;
  fanin::rewire(layer, moments, limit, threshold, seed, inputs, replaced.data(), threads);
}

}  // namespace

NB_MODULE(_cpu, module) {
  module.doc() = "The compiled CPU core of fanin; use it through fanin.kernels.cpu.";
  nb::class_<fanin::UpdateRule>(module, "UpdateRule").def_rw("rounding_key", &fanin::UpdateRule::rounding_key);
  nb::class_<LayerArrays>(module, "Layer")
      .def(nb::init<AnyMatrix, AnyMatrix, std::optional<Vector>, std::int64_t, std::int64_t, std::int64_t>(),
           "weight"_a.noconvert(), "index"_a.noconvert(), "bias"_a.noconvert().none(), "group_size"_a, "in_features"_a,
           "dense_inputs"_a)
      .def_prop_rw(
          "first_label", [](const LayerArrays& arrays) { return arrays.layer.first_label; },
          [](LayerArrays& arrays, std::int64_t first) {
            require(first >= 0 && first % arrays.layer.group == 0, "a part of a layer begins with a whole group");
            arrays.layer.first_label = first;
          });
  module.def("instruction_set", [] { return std::string(fanin::kernels().name); });
  module.def("sgd", &sgd, "learning_rate"_a, "momentum"_a, "weight_decay"_a);
  module.def("adamw", &adamw, "learning_rate"_a, "beta1"_a, "beta2"_a, "eps"_a, "weight_decay"_a, "step"_a);
  module.def("forward", &forward, "layer"_a, "x"_a.noconvert(), "shared_scores"_a.noconvert().none(), "cluster_size"_a,
             "logits"_a.noconvert(), "threads"_a);
  module.def("grad_input", &grad_input, "layer"_a, "grad"_a.noconvert(), "dx"_a.noconvert(), "threads"_a);
  module.def("grad_weight", &grad_weight, "layer"_a, "grad"_a.noconvert(), "x"_a.noconvert(), "dw"_a.noconvert(),
             "threads"_a);
  module.def("train_step", &train_step, "layer"_a, "weight_moments"_a, "bias_moments"_a, "x"_a.noconvert(),
             "indptr"_a.noconvert(), "indices"_a.noconvert(), "squared_hinge"_a, "update"_a, "scale"_a,
             "shared_scores"_a.noconvert().none(), "cluster_size"_a, "dx"_a.noconvert(),
             "shared_grad"_a.noconvert().none(), "threads"_a, "weights"_a.noconvert().none() = nb::none(),
             "margins"_a.noconvert().none() = nb::none());
  module.def("topk", &topk, "layer"_a, "x"_a.noconvert(), "shared_scores"_a.noconvert().none(), "cluster_size"_a,
             "indptr"_a.noconvert().none(), "indices"_a.noconvert().none(), "scores"_a.noconvert(),
             "labels"_a.noconvert(), "threads"_a);
  module.def("topk_among", &topk_among, "layer"_a, "x"_a.noconvert(), "members"_a.noconvert(), "bounds"_a.noconvert(),
             "chosen"_a.noconvert(), "unit"_a, "vectors"_a.noconvert().none(), "cluster_size"_a,
             "indptr"_a.noconvert().none(), "indices"_a.noconvert().none(), "scores"_a.noconvert(),
             "labels"_a.noconvert(), "threads"_a);
  nb::class_<fanin::LargestColumns>(module, "LargestColumns")
      .def("__init__", [](fanin::LargestColumns* place, std::int64_t rows, std::int64_t k) {
             require(rows >= 0 && k >= 1, "rows are at least 0, k at least 1");
             new (place) fanin::LargestColumns(rows, k);
           }, "rows"_a, "k"_a)
      .def("add", &add_columns, "products"_a.noconvert(), "bias"_a.noconvert(), "threads"_a)
      .def("take", &take_columns, "columns"_a.noconvert());
  module.def("draw_index", &draw_index, "index"_a.noconvert(), "in_features"_a, "seed"_a, "threads"_a,
             "first_set"_a = 0);
  module.def("widen_into", &widen_into, "codes"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
  module.def("round_into", &round_into, "values"_a.noconvert(), "key"_a, "first_element"_a, "out"_a.noconvert(),
             "threads"_a);
  module.def("rewire", &rewire, "layer"_a, "weight_moments"_a, "limit"_a, "threshold"_a, "seed"_a,
             "inputs"_a, "replaced"_a.noconvert(), "threads"_a);
}
