// XXH3-64, the hash of quern's own formats and reports. It detects accidents, not forgery.
// Source: xxHash specification, XXH3 with seed 0.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "formats/core/bytes.h"

namespace quern {

// Returns XXH3-64 of `bytes`.
uint64_t Xxh3(ByteView bytes);

// The same over bytes that come in pieces.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  Xxh3Stream(Xxh3Stream&&) noexcept;
  Xxh3Stream& operator=(Xxh3Stream&&) noexcept;
  void Update(ByteView bytes);
  uint64_t Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Returns 16 lower-case hex digits.
std::string HexOf(uint64_t hash);

}  // namespace quern
