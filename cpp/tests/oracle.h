// A layer with its batch and the truth of every operation, in plain double loops.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "fanin/layer.h"
#include "fanin/operations.h"

namespace oracle {

struct Shape {
  std::int64_t labels, inputs, fan_in, group, rows;
  std::int64_t cluster = 0;  // labels that share a score, 0 where none do
  std::int64_t sparse = 0;   // so many of the last inputs are mostly zero
  fanin::Storage storage = fanin::Storage::fp32;
};

// The number that a code of few bits stands for, from the definition of the formats.
inline float decoded(fanin::Storage storage, const std::uint8_t* codes, std::size_t at) {
  if (storage == fanin::Storage::bf16) {
    const std::uint32_t bits = static_cast<std::uint32_t>(codes[2 * at] | codes[2 * at + 1] << 8) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  const int exponent = codes[at] >> 3 & 15, mantissa = codes[at] & 7;
  if (exponent == 15 && mantissa == 7) return std::nanf("");
  const float magnitude = exponent ? std::ldexp(8.0f + static_cast<float>(mantissa), exponent - 10)
                                   : std::ldexp(static_cast<float>(mantissa), -9);
  return codes[at] & 128 ? -magnitude : magnitude;
}

// At least the distance of the numbers of a format next to a value.
inline double spacing(fanin::Storage storage, double value) {
  if (storage == fanin::Storage::bf16) return std::fmax(std::fabs(value) / 128.0, 1e-37);
  return std::fmax(std::fabs(value) / 8.0, 1.0 / 512.0);
}

// A random layer and batch. Every array has exactly the stated size, so that a sanitizer sees each step outside.
struct Problem {
  Shape shape;
  std::int64_t sets;
  bool wide;
  std::vector<float> weight, bias, x, scores;
  std::vector<std::uint8_t> codes;  // of the weights, where they are stored in fewer bits; little-endian
  std::vector<std::uint16_t> narrow_index;
  std::vector<std::int32_t> wide_index;
  std::vector<std::int64_t> indptr, indices;
  std::vector<float> pair_weights, pair_margins;  // of the indices; empty until emphasise()

  explicit Problem(const Shape& s) : shape(s), sets((s.labels + s.group - 1) / s.group), wide(s.inputs > 65536) {
    std::mt19937 random(static_cast<unsigned>(s.labels + 31 * s.inputs + s.rows));
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, std::int64_t n) {
      values.resize(static_cast<std::size_t>(n));
      for (float& value : values) value = normal(random);
    };
    fill(weight, s.labels * s.fan_in);
    if (s.storage != fanin::Storage::fp32) {
      codes.resize(weight.size() * static_cast<std::size_t>(fanin::bytes_of(s.storage)));
      for (std::size_t i = 0; i < codes.size(); ++i) {  // high bytes that make numbers from 2^-9 to 2
        const auto any = static_cast<std::uint8_t>(random());
        const bool high = s.storage == fanin::Storage::fp8 || i % 2 == 1;
        const int top = s.storage == fanin::Storage::fp8 ? any % 0x41 : 0x3B + any % 5;
        codes[i] = high ? static_cast<std::uint8_t>(top | (any & 0x80)) : any;
      }
      weight = weights();
    }
    fill(bias, s.labels);
    fill(x, s.rows * s.inputs);
    for (std::int64_t i = 0; i < s.rows * s.inputs; ++i) {
      if (i % s.inputs >= s.inputs - s.sparse && i / s.inputs % 23 != 5) x[static_cast<std::size_t>(i)] = 0.0f;
    }
    if (s.cluster > 0) fill(scores, (s.labels + s.cluster - 1) / s.cluster * s.rows);
    if (wide) {
      wide_index.resize(static_cast<std::size_t>(sets * s.fan_in));
    } else {
      narrow_index.resize(static_cast<std::size_t>(sets * s.fan_in));
    }
    fanin::draw_index(sets, 0, s.fan_in, s.inputs, 7, wide, layer().index, 2);
    indptr.push_back(0);
    for (std::int64_t row = 0; row < s.rows; ++row) {
      if (row % 3 != 1) {  // every third row has no positives, every row with some has one of them twice
        const auto labels = static_cast<std::uint64_t>(s.labels);
        for (int i = 0; i < 3; ++i) indices.push_back(static_cast<std::int64_t>(random() % labels));
        indices.push_back(indices.back());
      }
      indptr.push_back(static_cast<std::int64_t>(indices.size()));
    }
  }

  fanin::Layer layer() {
    void* index = wide ? static_cast<void*>(wide_index.data()) : static_cast<void*>(narrow_index.data());
    void* weights = codes.empty() ? static_cast<void*>(weight.data()) : static_cast<void*>(codes.data());
    return {weights, shape.storage, index, wide, bias.data(), shape.labels, shape.inputs, shape.fan_in,
            shape.group, sets, shape.inputs - shape.sparse};
  }
  // As they are now; `weight` keeps those from the start where they are stored in fewer bits.
  std::vector<float> weights() const {
    if (codes.empty()) return weight;
    std::vector<float> values(weight.size());
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = decoded(shape.storage, codes.data(), i);
    return values;
  }
  fanin::SharedScores shared() const {
    return {shape.cluster > 0 ? scores.data() : nullptr, shape.cluster};
  }
  std::size_t score_of(std::int64_t row, std::int64_t label) const {
    return static_cast<std::size_t>(label / shape.cluster * shape.rows + row);
  }
  fanin::Csr positives() const {
    return {indptr.data(), indices.data(), static_cast<std::int64_t>(indices.size()),
            pair_weights.empty() ? nullptr : pair_weights.data(), pair_margins.empty() ? nullptr : pair_margins.data()};
  }
  static double weight_of(std::int64_t label) { return 0.25 * static_cast<double>(label % 9); }
  static double margin_of(std::int64_t label) { return 0.5 * static_cast<double>(label % 4) - 0.5; }
  void emphasise() {
    for (const std::int64_t label : indices) {
      pair_weights.push_back(static_cast<float>(weight_of(label)));
      pair_margins.push_back(static_cast<float>(margin_of(label)));
    }
  }
  std::int64_t input_of(std::int64_t label, std::int64_t f) const {
    const auto at = static_cast<std::size_t>(label / shape.group * shape.fan_in + f);
    return wide ? wide_index[at] : narrow_index[at];
  }
  bool is_positive(std::int64_t row, std::int64_t label) const {
    for (std::int64_t i = indptr[static_cast<std::size_t>(row)]; i < indptr[static_cast<std::size_t>(row) + 1]; ++i) {
      if (indices[static_cast<std::size_t>(i)] == label) return true;
    }
    return false;
  }
};

inline std::vector<double> logits(const Problem& p) {
  const Shape& s = p.shape;
  std::vector<double> z;
  for (std::int64_t row = 0; row < s.rows; ++row) {
    for (std::int64_t label = 0; label < s.labels; ++label) {
      double sum = p.bias[static_cast<std::size_t>(label)];
      if (s.cluster > 0) sum += p.scores[p.score_of(row, label)];
      for (std::int64_t f = 0; f < s.fan_in; ++f) {
        sum += static_cast<double>(p.weight[static_cast<std::size_t>(label * s.fan_in + f)]) *
               p.x[static_cast<std::size_t>(row * s.inputs + p.input_of(label, f))];
      }
      z.push_back(sum);
    }
  }
  return z;
}

// Sum of the losses; gradient [B, L] by the logits.
inline double loss(const Problem& p, fanin::Loss kind, std::vector<double>& gradient) {
  const std::vector<double> z = logits(p);
  gradient.assign(z.size(), 0.0);
  double total = 0.0;
  for (std::int64_t row = 0; row < p.shape.rows; ++row) {
    for (std::int64_t label = 0; label < p.shape.labels; ++label) {
      const auto at = static_cast<std::size_t>(row * p.shape.labels + label);
      const double y = p.is_positive(row, label) ? 1.0 : 0.0;
      const bool emphasised = y == 1.0 && !p.pair_weights.empty();
      const double w = emphasised ? Problem::weight_of(label) : 1.0;
      const double logit = z[at] - (emphasised ? Problem::margin_of(label) : 0.0);
      if (kind == fanin::Loss::bce) {
        total += w * (std::fmax(logit, 0.0) + std::log1p(std::exp(-std::fabs(logit))) - y * logit);
        gradient[at] = w * (1.0 / (1.0 + std::exp(-logit)) - y);
      } else {
        const double sign = 2.0 * y - 1.0;
        const double margin = std::fmax(0.0, 1.0 - sign * logit);
        total += w * margin * margin;
        gradient[at] = -2.0 * w * sign * margin;
      }
    }
  }
  return total;
}

struct Gradients {
  std::vector<double> dx, dw, db, dscores;
};

inline Gradients backward(const Problem& p, const std::vector<double>& gradient) {
  Gradients out;
  const Shape& s = p.shape;
  out.dx.assign(p.x.size(), 0.0);
  out.dw.assign(p.weight.size(), 0.0);
  out.db.assign(p.bias.size(), 0.0);
  out.dscores.assign(p.scores.size(), 0.0);
  for (std::int64_t row = 0; row < s.rows; ++row) {
    for (std::int64_t label = 0; label < s.labels; ++label) {
      const double g = gradient[static_cast<std::size_t>(row * s.labels + label)];
      out.db[static_cast<std::size_t>(label)] += g;
      if (s.cluster > 0) out.dscores[p.score_of(row, label)] += g;
      for (std::int64_t f = 0; f < s.fan_in; ++f) {
        const auto w = static_cast<std::size_t>(label * s.fan_in + f);
        const auto input = static_cast<std::size_t>(row * s.inputs + p.input_of(label, f));
        out.dx[input] += g * p.weight[w];
        out.dw[w] += g * p.x[input];
      }
    }
  }
  return out;
}

}  // namespace oracle
