// Lists of names in messages.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "formats/core/error.h"

namespace quern {

// The first `n_shown` names, separated by commas, and how many more there are: a message stays
// short and memory bounded however many a file has.
class NameList {
 public:
  explicit NameList(uint64_t n_shown = 24) : n_shown_(n_shown) {}

  void Add(std::string_view name) {
    if (n_names_ < n_shown_) return AddPrintable(Quoted(name));
    ++n_names_;
  }
  // `text` appears as it is.
  void AddPrintable(std::string_view text) {
    if (n_names_++ >= n_shown_) return;
    if (!text_.empty()) text_ += ", ";
    text_ += text;
  }
  bool empty() const { return n_names_ == 0; }
  uint64_t size() const { return n_names_; }
  std::string ToString() const {
    if (n_names_ <= n_shown_) return text_;
    return text_ + " and " + std::to_string(n_names_ - n_shown_) + " more";
  }

 private:
  uint64_t n_shown_, n_names_ = 0;
  std::string text_;
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
