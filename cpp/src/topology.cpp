// Drawing and rewiring of index sets.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "drawing.h"
#include "fanin/operations.h"
#include "storage.h"
#include "threads.h"

namespace fanin {

namespace {

int useful_parts(std::int64_t sets, int threads) {
  constexpr std::int64_t kSetsWorthAThread = 256;
  return static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(threads, sets / kSetsWorthAThread)));
}

template <class Index>
void draw_sets(std::int64_t sets, std::int64_t first_set, std::int64_t fan_in, std::int64_t inputs, std::uint64_t seed,
               Index* index, int threads) {
  const int parts = useful_parts(sets, threads);
  run_parts(parts, [&](int part) {
    SubsetDrawer drawer(seed, inputs);
    const Share range = share(sets, part, parts);
    for (std::int64_t set = range.first; set < range.end; ++set) {
      const std::vector<std::int64_t>& chosen = drawer.draw(first_set + set, fan_in, inputs);
      std::transform(chosen.begin(), chosen.end(), index + set * fan_in,
                     [](std::int64_t value) { return static_cast<Index>(value); });
    }
  });
}

struct Slot {
  double score;
  std::int64_t number;
};

// Lower score first, the lower slot among equals.
bool weaker(const Slot& a, const Slot& b) { return a.score < b.score || (a.score == b.score && a.number < b.number); }

// Rewires one set after another; holds the scratch memory of one thread.
template <class Index>
class Rewirer {
 public:
  Rewirer(const Layer& layer, const Moments& moments, std::int64_t limit, double threshold, std::uint64_t seed,
          std::int64_t inputs)
      : layer_(layer),
        moments_(moments),
        limit_(limit),
        threshold_(threshold),
        inputs_(inputs),
        first_set_(layer.first_label / layer.group),
        drawer_(seed, inputs),
        slots_(static_cast<std::size_t>(layer.fan_in)),
        widened_(layer.storage == Storage::fp32 ? 0 : static_cast<std::size_t>(layer.fan_in)) {}

  std::int32_t rewire(std::int64_t set) {
    const std::int64_t F = layer_.fan_in;
    const Index* index = static_cast<const Index*>(layer_.index) + set * F;
    used_.assign(index, index + F);
    const std::int64_t spare =
        inputs_ - std::count_if(index, index + F, [this](Index input) { return input < inputs_; });
    const std::int64_t limit = std::min(limit_, spare);
    if (limit == 0) return 0;
    const std::int64_t first_label = set * layer_.group;
    const std::int64_t labels = std::min(layer_.group, layer_.labels - first_label);
    score_slots(first_label, labels);
    const auto end_of_weakest = slots_.begin() + limit;
    std::nth_element(slots_.begin(), end_of_weakest - 1, slots_.end(), weaker);
    std::sort(slots_.begin(), end_of_weakest, weaker);
    std::int64_t count = 0;
    while (count < limit && slots_[static_cast<std::size_t>(count)].score < threshold_) ++count;
    if (count > 0) replace(set, first_label, labels, drawer_.draw(first_set_ + set, count, spare));
    return static_cast<std::int32_t>(count);
  }

 private:
  void score_slots(std::int64_t first_label, std::int64_t labels) {
    const std::int64_t F = layer_.fan_in;
    for (std::int64_t f = 0; f < F; ++f) slots_[static_cast<std::size_t>(f)] = {0.0, f};
    for (std::int64_t label = first_label; label < first_label + labels; ++label) {
      const float* row = weights_of(label);
      for (std::int64_t f = 0; f < F; ++f) {
        slots_[static_cast<std::size_t>(f)].score += std::fabs(static_cast<double>(row[f]));
      }
    }
    for (Slot& slot : slots_) {
      slot.score /= static_cast<double>(labels);
      // NaN sorts last, and the comparison needs an order.
      if (std::isnan(slot.score)) slot.score = std::numeric_limits<double>::infinity();
    }
  }

  // The weights of a label, [F].
  const float* weights_of(std::int64_t label) {
    const void* stored = weight_place(layer_, label * layer_.fan_in);
    if (layer_.storage == Storage::fp32) return static_cast<const float*>(stored);
    widen_codes(layer_.storage, stored, layer_.fan_in, widened_.data());
    return widened_.data();
  }

  // The first of slots_, in their order, take the inputs of the drawn ranks.
  void replace(std::int64_t set, std::int64_t first_label, std::int64_t labels,
               const std::vector<std::int64_t>& ranks) {
    const std::int64_t F = layer_.fan_in;
    Index* index = static_cast<Index*>(layer_.index) + set * F;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      const Index value = unused(ranks[i]);
      const std::int64_t slot = slots_[i].number;
      index[slot] = value;
      for (std::int64_t label = first_label; label < first_label + labels; ++label) {
        std::memset(weight_place(layer_, label * F + slot), 0, static_cast<std::size_t>(bytes_of(layer_.storage)));
        for (float* moment : moments_.weight) {
          if (moment != nullptr) moment[label * F + slot] = 0.0f;
        }
      }
    }
  }

  // The input of the given rank among those that the set does not use: the smallest v with v = rank + (used inputs up
  // to v), reached from below. Counting takes no branches, unlike sorting the inputs in use.
  Index unused(std::int64_t rank) const {
    Index value = static_cast<Index>(rank);
    for (;;) {
      Index below = 0;
      for (const Index input : used_) below = static_cast<Index>(below + (input <= value));
      const Index next = static_cast<Index>(rank + below);
      if (next == value) return value;
      value = next;
    }
  }

  Layer layer_;
  Moments moments_;
  std::int64_t limit_;
  double threshold_;
  std::int64_t inputs_;  // regrown slots read one of the first so many
  std::int64_t first_set_;  // number of set 0 in the layer that this is part of
  SubsetDrawer drawer_;
  std::vector<Slot> slots_;
  std::vector<float> widened_;  // a label's weights, where they are stored in fewer bits
  std::vector<Index> used_;  // by the set before it is rewired
};

template <class Index>
void rewire_sets(const Layer& layer, const Moments& moments, std::int64_t limit, double threshold, std::uint64_t seed,
                 std::int64_t inputs, std::int32_t* replaced, int threads) {
  const int parts = useful_parts(layer.sets, threads);
  run_parts(parts, [&](int part) {
    Rewirer<Index> rewirer(layer, moments, limit, threshold, seed, inputs);
    const Share range = share(layer.sets, part, parts);
    for (std::int64_t set = range.first; set < range.end; ++set) replaced[set] = rewirer.rewire(set);
  });
}

}  // namespace

void draw_index(std::int64_t sets, std::int64_t first_set, std::int64_t fan_in, std::int64_t inputs, std::uint64_t seed,
                bool wide, void* index, int threads) {
  if (wide) {
    draw_sets(sets, first_set, fan_in, inputs, seed, static_cast<std::int32_t*>(index), threads);
  } else {
    draw_sets(sets, first_set, fan_in, inputs, seed, static_cast<std::uint16_t*>(index), threads);
  }
}

void rewire(const Layer& layer, const Moments& moments, std::int64_t limit, double threshold, std::uint64_t seed,
            std::int64_t inputs, std::int32_t* replaced, int threads) {
  if (limit <= 0) {
    std::fill(replaced, replaced + layer.sets, 0);
  } else if (layer.wide_index) {
    rewire_sets<std::int32_t>(layer, moments, limit, threshold, seed, inputs, replaced, threads);
  } else {
    rewire_sets<std::uint16_t>(layer, moments, limit, threshold, seed, inputs, replaced, threads);
  }
}

}  // namespace fanin
