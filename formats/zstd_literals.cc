#include "formats/zstd_literals.h"

#include <algorithm>
#include <array>
#include <bit>

#include "formats/core/check.h"

namespace quern {
namespace {

constexpr uint32_t kMagic = 0xFD2FB528;
constexpr size_t kBlockBytes = size_t{1} << 17;  // Block_Maximum_Size (3.1.1.2.4)
constexpr size_t kMaxCodeBits = 11;              // of a Huffman code (4.2.1)
constexpr size_t kSymbols = 256;
// Below this many literals one stream is shorter than four with their table of lengths.
constexpr size_t kLeastForFourStreams = 256;

using Histogram = std::array<uint32_t, kSymbols>;
using CodeLengths = std::array<uint8_t, kSymbols>;  // in bits; 0: the symbol does not occur

enum class BlockType : uint8_t { kRaw = 0, kRle = 1, kCompressed = 2 };  // 3.1.1.2.2
enum class LiteralsType : uint8_t { kCompressed = 2, kTreeless = 3 };    // 3.1.1.3.1.1

Histogram CountOf(ByteView bytes) {
  // Four tables: a byte that repeats would wait for its own counter.
  uint32_t counts[4][kSymbols] = {};
  const uint8_t* from = bytes.data();
  const uint8_t* const end = from + bytes.size();
  for (; end - from >= 8; from += 8) {
    const auto low = LoadLE<uint32_t>(from), high = LoadLE<uint32_t>(from + 4);
    ++counts[0][low & 0xFF];
    ++counts[1][low >> 8 & 0xFF];
    ++counts[2][low >> 16 & 0xFF];
    ++counts[3][low >> 24];
    ++counts[0][high & 0xFF];
    ++counts[1][high >> 8 & 0xFF];
    ++counts[2][high >> 16 & 0xFF];
    ++counts[3][high >> 24];
  }
  for (; from != end; ++from) ++counts[0][*from];
  Histogram sum;
  for (size_t s = 0; s < kSymbols; ++s) {
    sum[s] = counts[0][s] + counts[1][s] + counts[2][s] + counts[3][s];
  }
  return sum;
}

// Returns the lengths of an optimal prefix code of at most kMaxCodeBits bits.
// Requires: at least two symbols occur, in fewer than 2^28 bytes.
// Source: Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman codes"
// (1990), the package-merge algorithm: coins of face value 2^-depth, merged in pairs.
CodeLengths OptimalLengths(const Histogram& histogram) {
  // Symbols from the rarest to the most frequent, as count * 256 + symbol.
  std::array<uint64_t, kSymbols> leaves;
  size_t n_leaves = 0;
  for (size_t s = 0; s < kSymbols; ++s) {
    if (histogram[s] != 0) leaves[n_leaves++] = uint64_t{histogram[s]} << 8 | s;
  }
  std::sort(leaves.begin(), leaves.begin() + static_cast<ptrdiff_t>(n_leaves));
  // is_leaf[d][i]: what the i-th item of depth d's list is, a leaf or a package of two of the list
  // below it.
  std::array<std::array<bool, 2 * kSymbols>, kMaxCodeBits> is_leaf;
  std::array<uint64_t, kSymbols> packages;
  size_t n_packages = 0;
  for (size_t depth = kMaxCodeBits; depth-- > 0;) {
    std::array<uint64_t, 2 * kSymbols> list;
    size_t leaf = 0, package = 0;
    for (size_t i = 0; i < n_leaves + n_packages; ++i) {
      const bool takes_leaf =
          package == n_packages || (leaf < n_leaves && leaves[leaf] >> 8 <= packages[package]);
      is_leaf[depth][i] = takes_leaf;
      list[i] = takes_leaf ? leaves[leaf++] >> 8 : packages[package++];
    }
    n_packages = (n_leaves + n_packages) / 2;
    for (size_t i = 0; i < n_packages; ++i) packages[i] = list[2 * i] + list[2 * i + 1];
  }
  // The first 2n - 2 items of the top list, taken apart, have each symbol as often as its code has
  // bits.
  CodeLengths lengths{};
  size_t n_taken = 2 * n_leaves - 2;
  for (size_t depth = 0; depth < kMaxCodeBits && n_taken != 0; ++depth) {
    const auto begin = is_leaf[depth].begin();
    const auto n =
        static_cast<size_t>(std::count(begin, begin + static_cast<ptrdiff_t>(n_taken), true));
    for (size_t i = 0; i < n; ++i) ++lengths[leaves[i] & 0xFF];
    n_taken = 2 * (n_taken - n);
  }
  return lengths;
}

uint64_t CodedBits(const Histogram& histogram, const CodeLengths& lengths) {
  uint64_t n_bits = 0;
  for (size_t s = 0; s < kSymbols; ++s) n_bits += uint64_t{histogram[s]} * lengths[s];
  return n_bits;
}

// Writes bits from the lowest of each byte on.
class BitWriter {
 public:
  explicit BitWriter(uint8_t* out) : out_(out) {}
  // Requires: value < 2^n_bits, n_bits <= 16.
  void Put(uint32_t value, size_t n_bits) {
    bits_ |= uint64_t{value} << n_;
    n_ += n_bits;
    for (; n_ >= 8; n_ -= 8, bits_ >>= 8) *out_++ = static_cast<uint8_t>(bits_);
  }
  // Fills the last byte with zeros; returns the end.
  uint8_t* Finish() {
    if (n_ != 0) *out_++ = static_cast<uint8_t>(bits_);
    n_ = 0;
    return out_;
  }

 private:
  uint8_t* out_;
  uint64_t bits_ = 0;
  size_t n_ = 0;
};

// The weights of a Huffman tree, coded by finite state entropy (4.1, 4.2.1.2).
class WeightCoder {
 public:
  // Returns the coded bytes' number, or 0 where the weights cannot be coded so.
  // Requires: out has room for 512 bytes.
  static size_t Encode(std::span<const uint8_t> weights, uint8_t* out) {
    WeightCoder coder;
    if (!coder.Normalize(weights)) return 0;
    coder.MakeTable();
    uint8_t* const begin = out;
    out = coder.WriteProbabilities(out);
    return static_cast<size_t>(coder.WriteStates(weights, out) - begin);
  }

 private:
  static constexpr size_t kLog = 6;  // the most that a decoder takes
  static constexpr uint32_t kStates = 1 << kLog;

  // A state of the decoder: the symbol that it gives, and what follows it, `baseline` plus
  // `n_bits` bits.
  struct State {
    uint8_t symbol = 0, n_bits = 0;
    uint32_t baseline = 0;
    bool LeadsTo(uint32_t next) const { return next >= baseline && next - baseline < 1U << n_bits; }
  };

  // Gives each weight a share of the states. Returns false where one would have all of them.
  bool Normalize(std::span<const uint8_t> weights) {
    if (weights.size() < 2) return false;
    std::array<uint32_t, kMaxCodeBits + 1> counts{};
    for (const uint8_t weight : weights) ++counts[weight];
    const auto most = std::ranges::max_element(counts);
    if (*most == weights.size()) return false;
    uint32_t n_given = 0;
    for (size_t w = 0; w < counts.size(); ++w) {
      if (counts[w] == 0) continue;
      shares_[w] =
          std::max<uint32_t>(1, counts[w] * kStates / static_cast<uint32_t>(weights.size()));
      n_given += shares_[w];
    }
    // The most frequent one takes what is left; or gives what the rare ones got beyond their part,
    // which is less than it has.
    uint32_t& largest = shares_[static_cast<size_t>(most - counts.begin())];
    largest = largest + kStates - n_given;
    return true;
  }

  // Spreads the weights over the states as the decoder does (4.1.1).
  void MakeTable() {
    constexpr uint32_t kStep = (kStates >> 1) + (kStates >> 3) + 3;
    uint32_t position = 0;
    for (size_t w = 0; w < shares_.size(); ++w) {
      for (uint32_t i = 0; i < shares_[w]; ++i) {
        states_[position].symbol = static_cast<uint8_t>(w);
        position = (position + kStep) % kStates;
      }
    }
    auto next = shares_;
    for (State& state : states_) {
      const uint32_t x = next[state.symbol]++;
      state.n_bits = static_cast<uint8_t>(kLog + 1 - static_cast<size_t>(std::bit_width(x)));
      state.baseline = (x << state.n_bits) - kStates;
    }
  }

  uint8_t* WriteProbabilities(uint8_t* out) const {
    BitWriter bits(out);
    bits.Put(kLog - 5, 4);
    // A value is below remaining + 1; the lower ones of those that fit take a bit less.
    uint32_t remaining = kStates + 1;
    for (size_t w = 0; remaining > 1; ++w) {
      const uint32_t threshold = std::bit_floor(remaining);
      const auto n_bits = static_cast<size_t>(std::bit_width(threshold));
      const uint32_t n_short = 2 * threshold - 1 - remaining;
      const uint32_t value = shares_[w] + 1;
      if (value < n_short) {
        bits.Put(value, n_bits - 1);
      } else {
        bits.Put(value < threshold ? value : value + n_short, n_bits);
      }
      remaining -= shares_[w];
      if (shares_[w] != 0) continue;
      // Zeros that follow a zero are counted, up to three at a time.
      size_t n_zeros = 0;
      while (shares_[w + 1 + n_zeros] == 0) ++n_zeros;
      w += n_zeros;
      for (; n_zeros >= 3; n_zeros -= 3) bits.Put(3, 2);
      bits.Put(static_cast<uint32_t>(n_zeros), 2);
    }
    return bits.Finish();
  }

  // Two states take turns. The decoder reads from the end, so the last weights come first; theirs
  // are told by the states alone, which must want bits that are not there: that is how the decoder
  // knows the end.
  uint8_t* WriteStates(std::span<const uint8_t> weights, uint8_t* out) const {
    BitWriter bits(out);
    const size_t n = weights.size();
    uint32_t next[2];  // the states of the two weights behind, by the parity of their places
    for (size_t i = n; i-- > n - 2;) next[i % 2] = Longest(weights[i]);
    for (size_t i = n - 2; i-- > 0;) {
      const uint32_t state = StateBefore(weights[i], next[i % 2]);
      bits.Put(next[i % 2] - states_[state].baseline, states_[state].n_bits);
      next[i % 2] = state;
    }
    bits.Put(next[1], kLog);
    bits.Put(next[0], kLog);
    bits.Put(1, 1);
    return bits.Finish();
  }

  uint32_t Longest(uint8_t symbol) const {
    uint32_t best = kStates;
    for (uint32_t i = 0; i < kStates; ++i) {
      if (states_[i].symbol != symbol) continue;
      if (best == kStates || states_[i].n_bits > states_[best].n_bits) best = i;
    }
    return best;
  }
  uint32_t StateBefore(uint8_t symbol, uint32_t next) const {
    uint32_t i = 0;
    while (states_[i].symbol != symbol || !states_[i].LeadsTo(next)) ++i;
    return i;
  }

  std::array<uint32_t, kMaxCodeBits + 1> shares_{};
  std::array<State, kStates> states_;
};

// A Huffman code and its description for the decoder.
struct HuffmanCode {
  CodeLengths lengths{};
  std::array<uint32_t, kSymbols> codes{};  // code | length << 16
  std::array<uint8_t, 512> tree;           // Huffman_Tree_Description (4.2.1)
  size_t tree_bytes = 0;                   // 0: there is no description

  // Returns true if every symbol of the histogram has a code.
  bool Covers(const Histogram& histogram) const {
    for (size_t s = 0; s < kSymbols; ++s) {
      if (histogram[s] != 0 && lengths[s] == 0) return false;
    }
    return true;
  }
};

// Requires: at least two symbols occur.
HuffmanCode MakeCode(const Histogram& histogram) {
  HuffmanCode code;
  code.lengths = OptimalLengths(histogram);
  const size_t longest = *std::ranges::max_element(code.lengths);
  size_t last_symbol = kSymbols - 1;
  while (code.lengths[last_symbol] == 0) --last_symbol;
  // Codes are given from the longest on, and among equals by symbol (4.2.1.3).
  std::array<uint32_t, kMaxCodeBits + 1> n_of_length{}, next{};
  for (const uint8_t length : code.lengths) ++n_of_length[length];
  for (size_t length = longest, first = 0; length > 0; --length) {
    next[length] = static_cast<uint32_t>(first);
    first = (first + n_of_length[length]) / 2;
  }
  // A symbol's weight; that of the last one follows from the others.
  std::array<uint8_t, kSymbols> weights{};
  for (size_t s = 0; s <= last_symbol; ++s) {
    const uint32_t length = code.lengths[s];
    if (length == 0) continue;
    weights[s] = static_cast<uint8_t>(longest + 1 - length);
    code.codes[s] = next[length]++ | length << 16;
  }
  const size_t coded = WeightCoder::Encode({weights.data(), last_symbol}, &code.tree[1]);
  const size_t direct = last_symbol <= 128 ? (last_symbol + 1) / 2 : kSymbols;
  if (coded != 0 && coded < 128 && coded <= direct) {
    code.tree[0] = static_cast<uint8_t>(coded);
    code.tree_bytes = 1 + coded;
  } else if (direct < kSymbols) {
    code.tree[0] = static_cast<uint8_t>(127 + last_symbol);
    weights[last_symbol] = 0;
    for (size_t i = 0; i < direct; ++i) {
      code.tree[1 + i] = static_cast<uint8_t>(weights[2 * i] << 4 | weights[2 * i + 1]);
    }
    code.tree_bytes = 1 + direct;
  }
  return code;
}

// Some codes behind each other: the first symbol's bits are the lowest.
struct Bits {
  uint64_t bits = 0;
  uint32_t n = 0;
  Bits Then(Bits next) const { return {bits | next.bits << n, n + next.n}; }
};

// Writes one stream of codes, the last symbol first, since the decoder reads from the end; returns
// the stream's end. Up to seven bytes behind it are written too.
uint8_t* WriteStream(ByteView symbols, const std::array<uint32_t, kSymbols>& codes, uint8_t* out) {
  const uint32_t* const code_of = codes.data();
  const auto CodeOf = [&](uint8_t symbol) -> Bits {
    return {code_of[symbol] & 0xFFFF, code_of[symbol] >> 16};
  };
  Bits bits;
  const auto Flush = [&] {
    StoreLE(out, bits.bits);
    out += bits.n / 8;
    bits = {bits.bits >> (bits.n & ~7U), bits.n & 7};
  };
  const uint8_t* from = symbols.data() + symbols.size();
  for (size_t i = symbols.size() % 4; i != 0; --i) bits = bits.Then(CodeOf(*--from));
  Flush();
  while (from != symbols.data()) {
    from -= 4;
    // In pairs, so that little of the work has to wait for the bits before. Four codes and seven
    // bits are less than 64.
    const Bits first = CodeOf(from[3]).Then(CodeOf(from[2]));
    const Bits second = CodeOf(from[1]).Then(CodeOf(from[0]));
    bits = bits.Then(first.Then(second));
    Flush();
  }
  bits = bits.Then({1, 1});
  StoreLE(out, bits.bits);
  return out + (bits.n + 7) / 8;
}

// One frame on its way.
class FrameWriter {
 public:
  explicit FrameWriter(uint8_t* out) : out_(out) {}

  void WriteHeader(size_t n_bytes) {  // 3.1.1.1
    constexpr uint8_t kSingleSegment = 1 << 5;
    Put(kMagic);
    if (n_bytes < 256) {
      Put(kSingleSegment);
      Put(static_cast<uint8_t>(n_bytes));
    } else if (n_bytes < 65536 + 256) {
      Put(static_cast<uint8_t>(1 << 6 | kSingleSegment));
      Put(static_cast<uint16_t>(n_bytes - 256));
    } else {
      Put(static_cast<uint8_t>(2 << 6 | kSingleSegment));
      Put(static_cast<uint32_t>(n_bytes));
    }
  }

  void WriteBlock(ByteView bytes, bool is_last) {
    const Histogram histogram = CountOf(bytes);
    const auto n_symbols = std::ranges::count_if(histogram, [](uint32_t n) { return n != 0; });
    if (n_symbols == 1) {
      WriteBlockHeader(is_last, BlockType::kRle, bytes.size());
      Put(bytes[0]);
    } else if (n_symbols == 0 || !WriteCompressed(bytes, histogram, is_last)) {
      WriteBlockHeader(is_last, BlockType::kRaw, bytes.size());
      out_ = std::ranges::copy(bytes, out_).out;
    }
  }

  uint8_t* end() const { return out_; }

 private:
  template <typename T>
  void Put(T value) {
    StoreLE(out_, value);
    out_ += sizeof value;
  }
  void PutLow(uint64_t value, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; ++i) Put(static_cast<uint8_t>(value >> 8 * i));
  }
  void WriteBlockHeader(bool is_last, BlockType type, size_t size) {  // 3.1.1.2
    PutLow((is_last ? 1 : 0) | static_cast<uint64_t>(type) << 1 | size << 3, 3);
  }

  // Returns false, with nothing written, where the block would not be shorter than its bytes.
  bool WriteCompressed(ByteView bytes, const Histogram& histogram, bool is_last) {
    const bool can_reuse = has_code_ && code_.Covers(histogram);
    HuffmanCode fresh = MakeCode(histogram);
    const auto Size = [&](const HuffmanCode& code, size_t tree_bytes) {
      // Streams end in an incomplete byte each.
      const size_t overhead = bytes.size() < kLeastForFourStreams ? 1 : 6 + 4;
      return tree_bytes + CodedBits(histogram, code.lengths) / 8 + overhead;
    };
    const size_t reused_bytes = can_reuse ? Size(code_, 0) : SIZE_MAX;
    const size_t fresh_bytes = fresh.tree_bytes != 0 ? Size(fresh, fresh.tree_bytes) : SIZE_MAX;
    const size_t kHeaders = 3 + 5 + 1;  // of block, literals and sequences, at most
    const size_t best = std::min(reused_bytes, fresh_bytes);
    if (best == SIZE_MAX || best + kHeaders >= bytes.size()) return false;
    const bool is_treeless = reused_bytes <= fresh_bytes;
    if (!is_treeless) code_ = fresh;
    has_code_ = true;
    uint8_t* const block = out_;
    out_ += 3;
    WriteLiterals(bytes, is_treeless);
    Put(uint8_t{0});  // Number_of_Sequences (3.1.1.3.2.1)
    uint8_t* const end = out_;
    out_ = block;
    WriteBlockHeader(is_last, BlockType::kCompressed, static_cast<size_t>(end - block) - 3);
    out_ = end;
    return true;
  }

  void WriteLiterals(ByteView bytes, bool is_treeless) {  // 3.1.1.3.1
    // Size_Format: how many streams, and how many bits both sizes take.
    const size_t format = bytes.size() < kLeastForFourStreams ? 0
                          : bytes.size() < 1 << 10            ? 1
                          : bytes.size() < 1 << 14            ? 2
                                                              : 3;
    const size_t size_bits = format <= 1 ? 10 : format == 2 ? 14 : 18;
    const size_t header_bytes = (4 + 2 * size_bits + 7) / 8;
    uint8_t* const header = out_;
    out_ += header_bytes;
    if (!is_treeless) out_ = std::copy_n(code_.tree.begin(), code_.tree_bytes, out_);
    if (format == 0) {
      out_ = WriteStream(bytes, code_.codes, out_);
    } else {
      uint8_t* const jump_table = out_;
      out_ += 6;
      const size_t quarter = (bytes.size() + 3) / 4;
      for (size_t i = 0; i < 4; ++i) {
        uint8_t* const begin = out_;
        const size_t n = i < 3 ? quarter : bytes.size() - 3 * quarter;
        out_ = WriteStream(bytes.subspan(i * quarter, n), code_.codes, out_);
        if (i < 3) StoreLE(jump_table + 2 * i, static_cast<uint16_t>(out_ - begin));
      }
    }
    uint8_t* const end = out_;
    const auto coded_bytes = static_cast<uint64_t>(end - header) - header_bytes;
    const LiteralsType type = is_treeless ? LiteralsType::kTreeless : LiteralsType::kCompressed;
    out_ = header;
    PutLow(static_cast<uint64_t>(type) | format << 2 | uint64_t{bytes.size()} << 4 |
               coded_bytes << (4 + size_bits),
           header_bytes);
    out_ = end;
  }

  uint8_t* out_;
  HuffmanCode code_;  // of the last block that had one
  bool has_code_ = false;
};

}  // namespace

size_t EncodeZstdLiterals(ByteView content, MutableByteView out) {
  QUERN_CHECK(out.size() >= ZstdLiteralsBound(content.size()) && content.size() <= UINT32_MAX);
  FrameWriter frame(out.data());
  frame.WriteHeader(content.size());
  do {
    const ByteView block = content.first(std::min(content.size(), kBlockBytes));
    content = content.subspan(block.size());
    frame.WriteBlock(block, content.empty());
  } while (!content.empty());
  return static_cast<size_t>(frame.end() - out.data());
}

}  // namespace quern
