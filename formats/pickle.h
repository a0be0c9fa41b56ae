// A pickle as data: the stream of opcodes becomes a graph of values, and nothing is ever imported
// or called. Globals come from an allow-list, calls stay symbolic, everything else is refused.
//
// The graph lives in a few flat arrays (8 bytes per value), whatever the nesting, and is destroyed
// without recursion. Budgets bound the values, the depth and the memo.
// Source: CPython, Lib/pickletools.py; torch/_weights_only_unpickler.py (which opcodes occur).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/bytes.h"

namespace quern {

// Containers within containers; calls count as one.
inline constexpr unsigned kPickleMaxDepth = 64;
// Values alive at any time (on the stack, in the memo, in containers), plus one per 8 bytes.
inline constexpr uint64_t kPickleMaxValues = uint64_t{3} << 20;

// A larger pickle is none of a checkpoint. (Real ones have about 100 bytes per tensor.)
inline constexpr uint64_t kPickleMaxBytes = uint64_t{1} << 30;

// A global that a pickle may name.
struct PickleGlobal {
  enum class Role : uint8_t {
    kDict,      // called, it gives a dict
    kCallable,  // a call of it stays a kCall value
    kSymbol,    // a name that cannot be called
  };
  std::string_view module, name;
  Role role = Role::kSymbol;
  uint8_t tag = 0, detail = 0;  // for the caller, who knows what the name means
};

// Returns an integer in two's complement, little-endian, without the bytes at its end that only
// repeat its sign.
ByteView WithoutSignExtension(ByteView bytes);

// One value: a handle that is meaningful for its Pickle.
class PickleValue {
 public:
  enum class Kind : uint8_t {
    kUnset,    // an empty slot of the memo; never in a finished graph
    kNone, kBool,
    kInt,      // at most 51 bits: whatever a size can be
    kBigInt,   // an integer beyond
    kFloat, kText, kBytes, kTuple, kList, kDict, kSet, kGlobal,
    kCall,          // callable and arguments
    kPersistentId,  // items: those of its tuple
  };
  PickleValue() = default;
  Kind kind() const { return static_cast<Kind>(bits_ & 0xF); }
  bool operator==(const PickleValue&) const = default;

 private:
  friend class Pickle;
  friend class PickleMachine;
  friend class PickleItems;
  static constexpr unsigned kPayloadShift = 12;
  PickleValue(Kind kind, unsigned depth, int64_t payload)
      : bits_(static_cast<uint64_t>(payload) << kPayloadShift | uint64_t{depth} << 4 |
              static_cast<uint64_t>(kind)) {}
  // Two numbers in one slot: the heads of containers and of their runs of items.
  static PickleValue Pair(uint32_t low, uint32_t high) {
    PickleValue pair;
    pair.bits_ = uint64_t{high} << 32 | low;
    return pair;
  }
  uint32_t low() const { return static_cast<uint32_t>(bits_); }
  uint32_t high() const { return static_cast<uint32_t>(bits_ >> 32); }
  unsigned depth() const { return static_cast<unsigned>(bits_ >> 4 & 0xFF); }
  int64_t signed_payload() const { return static_cast<int64_t>(bits_) >> kPayloadShift; }
  uint64_t payload() const { return bits_ >> kPayloadShift; }

  uint64_t bits_ = 0;  // kind: 4 bits; depth, where it is known: 8; payload: 52
};

// Walks over the items of a tuple, list or set; the keys and values of a dict, in turn; the
// callable and the arguments of a call. Requires: the Pickle outlives it.
class PickleItems {
 public:
  // Returns the next item, or nothing.
  std::optional<PickleValue> Next();

 private:
  friend class Pickle;
  PickleItems(const std::deque<PickleValue>& pool, uint64_t at, uint64_t end, uint64_t chunk)
      : pool_(&pool), at_(at), end_(end), chunk_(chunk) {}
  const std::deque<PickleValue>* pool_;
  uint64_t at_, end_;  // what is left of the present run of items
  uint64_t chunk_;     // the run after it, or 0
};

class Pickle {
 public:
  // Returns the graph of the pickle in `bytes`. `file` and `entry` are for messages.
  // Requires: bytes.size() <= kPickleMaxBytes; what `allowed` points to outlives the Pickle.
  // Throws: Error kData "pickle.opcode", "pickle.truncated", "pickle.stack", "pickle.memo",
  // "pickle.frame", "pickle.global", "pickle.call", "pickle.build", "pickle.container",
  // "pickle.depth", "pickle.cycle", "pickle.budget", "text.utf8", "torch.persistent-id",
  // "input.trailing-data"; kUnsupported "pickle.protocol". Offsets are those in `bytes`.
  // Cost: besides `bytes`, at most 24 MiB and as much again.
  static Pickle Parse(std::vector<uint8_t> bytes, std::span<const PickleGlobal> allowed,
                      std::string_view file, std::string_view entry);

  PickleValue root() const { return root_; }
  // Returns the items of a value that has some; of any other, none.
  PickleItems Items(PickleValue value) const;
  // Returns the number of items, and the items. Requires: a tuple or a persistent id.
  uint64_t TupleSize(PickleValue value) const;
  std::vector<PickleValue> TupleItems(PickleValue value) const;
  // Requires: kind kInt, kBool; kText; kGlobal; kCall.
  int64_t Int(PickleValue value) const;
  // Requires: kind kInt, kBool or kBigInt.
  bool IsNegative(PickleValue value) const;
  std::string_view Text(PickleValue value) const;
  const PickleGlobal& Global(PickleValue value) const;
  PickleValue Callable(PickleValue call) const;
  PickleValue Arguments(PickleValue call) const;

  bool IsText(PickleValue value, std::string_view text) const;
  // Returns a phrase for messages: "-4", "the text 'x'", "torch._utils._rebuild_tensor(…)".
  std::string Describe(PickleValue value) const;

 private:
  friend class PickleMachine;
  Pickle() = default;
  std::string_view TextAt(uint64_t opcode_offset) const;
  ByteView LongAt(uint64_t opcode_offset) const;
  void CheckGraph(std::string_view file, std::string_view entry) const;

  std::vector<uint8_t> bytes_;
  std::span<const PickleGlobal> allowed_;
  // The items of all containers, in runs: Pair(number of items, next run or 0), items. A tuple is
  // one run; a list, dict or set is Pair(first run, last run); a call, its callable and arguments.
  // (A deque grows without a second copy.)
  std::deque<PickleValue> pool_;
  PickleValue root_;
};

}  // namespace quern
