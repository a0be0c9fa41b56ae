#include "verify/imatrix_statistics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <string_view>

namespace quern {
namespace {

constexpr double kActiveAbove = 1e-5;

// "blk.7.ffn_up.weight": 7 and "ffn_up.weight".
struct LayerName {
  uint32_t layer = 0;
  std::string_view tensor;
};

std::optional<LayerName> LayerOf(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  LayerName parts;
  const auto [end, status] = std::from_chars(name.data(), name.data() + name.size(), parts.layer);
  if (status != std::errc()) return std::nullopt;
  name.remove_prefix(static_cast<size_t>(end - name.data()));
  if (!name.starts_with('.')) return std::nullopt;
  parts.tensor = name.substr(1);
  return parts;
}

std::optional<double> Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::nullopt;
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * double{b[i]};
    aa += double{a[i]} * double{a[i]};
    bb += double{b[i]} * double{b[i]};
  }
  if (aa == 0 || bb == 0) return std::nullopt;
  return ab / std::sqrt(aa) / std::sqrt(bb);
}

ImatrixStatistics Describe(const ImatrixEntry& entry) {
  ImatrixStatistics s;
  s.name = entry.name;
  s.n_values = entry.values.size();
  const auto n = static_cast<double>(s.n_values);
  const auto [least, most] = std::ranges::minmax_element(entry.values);
  s.minimum = double{*least};
  s.maximum = double{*most};
  for (const float value : entry.values) s.sum += double{value};
  s.mean = s.sum / n;
  double squares = 0;
  for (const float value : entry.values) squares += std::pow(double{value} - s.mean, 2);
  s.deviation = std::sqrt(squares / n);
  for (const float value : entry.values) {
    s.active += double{value} > kActiveAbove ? 1 / n : 0;
    s.outliers += s.deviation > 0 && double{value} - s.mean > s.deviation ? 1 / n : 0;
    const double part = s.sum > 0 ? double{value} / s.sum : 0;
    if (part > 0) s.entropy_bits -= part * std::log2(part);
  }
  s.relative_entropy = s.n_values > 1 ? s.entropy_bits / std::log2(n) : 0;
  return s;
}

}  // namespace

std::vector<ImatrixStatistics> StatisticsOf(const Imatrix& imatrix) {
  std::map<std::pair<std::string_view, uint32_t>, const ImatrixEntry*> places;
  for (const ImatrixEntry& entry : imatrix.entries) {
    if (const auto at = LayerOf(entry.name))
      places.emplace(std::pair(at->tensor, at->layer), &entry);
  }
  std::vector<ImatrixStatistics> all;
  for (const ImatrixEntry& entry : imatrix.entries) {
    all.push_back(Describe(entry));
    const auto at = LayerOf(entry.name);
    if (!at || at->layer == 0) continue;
    const auto previous = places.find({at->tensor, at->layer - 1});
    if (previous == places.end()) continue;
    all.back().cosine_to_previous = Cosine(previous->second->values, entry.values);
  }
  return all;
}

}  // namespace quern
