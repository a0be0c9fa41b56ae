// Memory that is written before it is read: setting it to zero first would take as long as a copy.
#pragma once

#include <memory>

#include "formats/core/bytes.h"

namespace quern {

// Grows as asked for, never shrinks.
class Scratch {
 public:
  // Returns `n` bytes of indeterminate content, or what was last written to the first `n` where
  // they are not more than before.
  MutableByteView Room(size_t n) {
    if (n > capacity_) {
      bytes_.reset();  // first, so that both are never there at once
      bytes_ = std::make_unique_for_overwrite<uint8_t[]>(n);
      capacity_ = n;
    }
    return {bytes_.get(), n};
  }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  size_t capacity_ = 0;
};

}  // namespace quern
