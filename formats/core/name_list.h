// Lists of names in messages.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "formats/core/error.h"

namespace quern {

// The first names, quoted and separated by commas, and how many more there are: a message stays
// short and memory bounded however many a file has.
class NameList {
 public:
  void Add(std::string_view name) {
    constexpr uint64_t kShown = 24;
    if (n_names_++ < kShown) {
      text_ += (text_.empty() ? "" : ", ") + Quoted(name);
    } else {
      ++n_more_;
    }
  }
  bool empty() const { return n_names_ == 0; }
  uint64_t size() const { return n_names_; }
  std::string ToString() const {
    return n_more_ == 0 ? text_ : text_ + " and " + std::to_string(n_more_) + " more";
  }

 private:
  std::string text_;
  uint64_t n_names_ = 0, n_more_ = 0;
};

// Returns names of tensors that are missing, `n_per_layer` adjacent ones of a layer as
// "PREFIXn.*". Names of layers begin with `layer_prefix`, for instance "model.layers.".
inline NameList MissingTensors(std::span<const std::string> names, std::string_view layer_prefix,
                               size_t n_per_layer) {
  NameList list;
  for (size_t i = 0; i < names.size();) {
    const bool is_layer = names[i].starts_with(layer_prefix);
    const size_t dot = is_layer ? names[i].find('.', layer_prefix.size()) + 1 : 0;
    const std::string layer = names[i].substr(0, dot);
    size_t end = i + 1;
    while (dot > 0 && end < names.size() && names[end].starts_with(layer)) ++end;
    if (end - i == n_per_layer) {
      list.Add(layer + "*");
    } else {
      for (const std::string& name : names.subspan(i, end - i)) list.Add(name);
    }
    i = end;
  }
  return list;
}

}  // namespace quern
