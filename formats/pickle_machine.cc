#include "formats/pickle.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/core/check.h"
#include "formats/core/error.h"
#include "formats/pickle_opcodes.h"

namespace quern {

using Kind = PickleValue::Kind;

// Executes the opcodes symbolically. Everything it knows of what may be called is `allowed`.
class PickleMachine {
 public:
  PickleMachine(Pickle& pickle, std::string_view file, std::string_view entry)
      : pickle_(pickle), bytes_(pickle.bytes_), file_(file), entry_(entry) {
    pool().push_back(PickleValue::Pair(0, 0));  // the empty run: every empty tuple
  }

  void Run() {
    while (!stopped_) {
      op_offset_ = position_;
      op_ = 0;
      if (position_ == bytes_.size()) {
        throw Fail("pickle.truncated", "pickle ends without STOP");
      }
      op_ = bytes_[position_++];
      if (!Scalar() && !StackAndMemo() && !Container()) Other();
      CheckBudget();
    }
    if (position_ != bytes_.size()) {
      throw Fail("input.trailing-data", "bytes behind the end of the pickle")
          .Found(fmt::format("{} bytes", bytes_.size() - position_));
    }
  }

 private:
  std::deque<PickleValue>& pool() { return pickle_.pool_; }

  Error Fail(std::string_view id, std::string_view what) const {
    const std::string_view name = PickleOpcodeName(op_);
    return DataError(id, what)
        .File(file_)
        .Where(fmt::format("entry {}{}{}", Quoted(entry_), name.empty() ? "" : ", opcode ", name))
        .Offset(op_offset_)
        .Hint("the file is damaged or made to mislead: fetch it again from its publisher");
  }

  // --- the stream -------------------------------------------------------------------------------

  ByteView Take(uint64_t n) {
    const uint64_t remaining = bytes_.size() - position_;
    if (n > remaining) {
      throw Fail("pickle.truncated", "argument of the opcode is longer than the rest of the pickle")
          .Found(fmt::format("{} bytes", n))
          .Expected(fmt::format("at most {} bytes", remaining));
    }
    const ByteView taken = bytes_.subspan(position_, n);
    position_ += n;
    return taken;
  }
  template <typename T>
  T Read() {
    return LoadLE<T>(Take(sizeof(T)).data());
  }
  // Reads a signed 32-bit length.
  uint64_t ReadSignedLength() {
    const int32_t length = Read<int32_t>();
    if (length < 0) {
      throw Fail("pickle.truncated", "argument of the opcode has a negative length")
          .Found(fmt::format("{} bytes", length));
    }
    return static_cast<uint64_t>(length);
  }
  std::string_view ReadLine() {
    const std::string_view rest = AsText(bytes_.subspan(position_));
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) {
      throw Fail("pickle.truncated", "argument of the opcode has no end");
    }
    position_ += end + 1;
    return rest.substr(0, end);
  }

  // --- the stack --------------------------------------------------------------------------------

  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  void Push(Kind kind, int64_t payload = 0) { stack_.push_back({kind, 0, payload}); }
  PickleValue& Top() {
    if (stack_.size() <= floor()) throw Fail("pickle.stack", "stack is empty");
    return stack_.back();
  }
  PickleValue Pop() {
    const PickleValue top = Top();
    stack_.pop_back();
    return top;
  }
  // Removes the last mark and returns where the values above it begin.
  size_t PopMark() {
    if (marks_.empty()) throw Fail("pickle.stack", "stack has no mark");
    const size_t begin = marks_.back();
    marks_.pop_back();
    return begin;
  }

  void CheckBudget() const {
    const uint64_t n_values = stack_.size() + memo_.size() + pickle_.pool_.size();
    if (n_values > kPickleMaxValues + bytes_.size() / 8) {
      throw Fail("pickle.budget", "pickle has too many values")
          .Expected(fmt::format("at most {}", kPickleMaxValues + bytes_.size() / 8));
    }
  }

  // --- containers -------------------------------------------------------------------------------

  // Moves the values from stack index `begin` into a new run of the pool and returns its index.
  uint32_t MoveToRun(size_t begin) {
    const size_t run = pool().size();
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto count = static_cast<uint32_t>(stack_.size() - begin);
    pool().push_back(PickleValue::Pair(count, 0));
    pool().insert(pool().end(), first, stack_.end());
    stack_.erase(first, stack_.end());
    return static_cast<uint32_t>(run);
  }
  unsigned DepthAbove(unsigned inner) const {
    if (inner < kPickleMaxDepth) return inner + 1;
    throw Fail("pickle.depth", "nesting depth of the object is too large")
        .Expected(fmt::format("a depth of at most {}", kPickleMaxDepth));
  }
  // Replaces the values from stack index `begin` by one tuple.
  void MakeTuple(size_t begin) {
    if (begin == stack_.size()) return Push(Kind::kTuple, 0);
    unsigned depth = 0;
    for (size_t i = begin; i < stack_.size(); ++i) depth = std::max(depth, stack_[i].depth());
    depth = DepthAbove(depth);
    const uint32_t run = MoveToRun(begin);
    stack_.push_back({Kind::kTuple, depth, run});
  }
  void MakeSmallTuple(size_t n) {
    if (stack_.size() - floor() < n) throw Fail("pickle.stack", "stack has too few values");
    MakeTuple(stack_.size() - n);
  }
  void PushContainer(Kind kind) {
    Push(kind, static_cast<int64_t>(pool().size()));
    pool().push_back(PickleValue::Pair(0, 0));
  }
  // Appends the values from stack index `begin` to the container below them.
  void AppendToContainer(size_t begin, Kind kind, std::string_view kind_name) {
    if (begin <= floor()) throw Fail("pickle.stack", "stack has no container");
    const PickleValue container = stack_[begin - 1];
    if (container.kind() != kind) {
      throw Fail("pickle.container", "opcode does not fit the value below it")
          .Found(pickle_.Describe(container))
          .Expected(kind_name);
    }
    if (kind == Kind::kDict && (stack_.size() - begin) % 2 != 0) {
      throw Fail("pickle.stack", "key without a value");
    }
    if (begin == stack_.size()) return;
    const uint32_t run = MoveToRun(begin);
    PickleValue& head = pool()[container.payload()];
    if (head.high() == 0) {
      head = PickleValue::Pair(run, run);
    } else {
      PickleValue& last = pool()[head.high()];
      last = PickleValue::Pair(last.low(), run);
      head = PickleValue::Pair(head.low(), run);
    }
  }
  // Appends the `n` values on top to the container below them.
  void AppendTop(size_t n, Kind kind, std::string_view kind_name) {
    if (stack_.size() - floor() < n) throw Fail("pickle.stack", "stack has too few values");
    AppendToContainer(stack_.size() - n, kind, kind_name);
  }

  // --- groups of opcodes; each returns false for an opcode of another group ---------------------

  bool Scalar() {
    const auto here = static_cast<int64_t>(op_offset_);
    switch (op_) {
      case kOpNone: Push(Kind::kNone); return true;
      case kOpNewTrue: Push(Kind::kBool, 1); return true;
      case kOpNewFalse: Push(Kind::kBool, 0); return true;
      case kOpBinInt: Push(Kind::kInt, Read<int32_t>()); return true;
      case kOpBinInt1: Push(Kind::kInt, Read<uint8_t>()); return true;
      case kOpBinInt2: Push(Kind::kInt, Read<uint16_t>()); return true;
      case kOpLong1: PushLong(Take(Read<uint8_t>())); return true;
      case kOpLong4: PushLong(Take(ReadSignedLength())); return true;
      case kOpBinFloat: Take(8); Push(Kind::kFloat); return true;
      case kOpBinUnicode: PushText(Take(Read<uint32_t>())); return true;
      case kOpShortBinUnicode: PushText(Take(Read<uint8_t>())); return true;
      case kOpBinUnicode8: PushText(Take(Read<uint64_t>())); return true;
      case kOpShortBinString: PushText(Take(Read<uint8_t>())); return true;
      case kOpBinString: PushText(Take(ReadSignedLength())); return true;
      case kOpShortBinBytes: Take(Read<uint8_t>()); Push(Kind::kBytes, here); return true;
      case kOpBinBytes: Take(Read<uint32_t>()); Push(Kind::kBytes, here); return true;
      case kOpBinBytes8: Take(Read<uint64_t>()); Push(Kind::kBytes, here); return true;
      case kOpByteArray8: Take(Read<uint64_t>()); Push(Kind::kBytes, here); return true;
      default: return false;
    }
  }

  void PushText(ByteView text) {
    size_t bad_offset = 0;
    if (!IsUtf8(AsText(text), &bad_offset)) {
      throw Fail("text.utf8", "text in the pickle is no valid UTF-8")
          .Offset(position_ - text.size() + bad_offset)
          .Found(Quoted(AsText(text)));
    }
    Push(Kind::kText, static_cast<int64_t>(op_offset_));
  }

  void PushLong(ByteView bytes) {
    // Two's complement, little-endian, as short as possible or longer.
    bytes = WithoutSignExtension(bytes);
    uint64_t bits = 0;
    const size_t n = std::min<size_t>(bytes.size(), 8);
    for (size_t i = 0; i < n; ++i) bits |= uint64_t{bytes[i]} << 8 * i;
    if (n > 0 && n < 8 && (bytes[n - 1] & 0x80) != 0) bits |= ~uint64_t{0} << 8 * n;
    const auto value = static_cast<int64_t>(bits);
    constexpr int64_t kLimit = int64_t{1} << (63 - PickleValue::kPayloadShift);
    const bool is_small = bytes.size() <= 8 && value >= -kLimit && value < kLimit;
    if (is_small) Push(Kind::kInt, value);
    else Push(Kind::kBigInt, static_cast<int64_t>(op_offset_));
  }

  bool StackAndMemo() {
    switch (op_) {
      case kOpMark:
        // Every nested container that is being filled has one mark.
        DepthAbove(static_cast<unsigned>(marks_.size()));
        marks_.push_back(stack_.size());
        return true;
      case kOpPop:
        if (!marks_.empty() && stack_.size() == marks_.back()) marks_.pop_back();
        else Pop();
        return true;
      case kOpPopMark: stack_.resize(PopMark()); return true;
      case kOpDup: stack_.push_back(PickleValue(Top())); return true;
      case kOpBinPut: Put(Read<uint8_t>()); return true;
      case kOpLongBinPut: Put(Read<uint32_t>()); return true;
      case kOpMemoize: Put(memo_.size()); return true;
      case kOpBinGet: Get(Read<uint8_t>()); return true;
      case kOpLongBinGet: Get(Read<uint32_t>()); return true;
      default: return false;
    }
  }

  void Put(uint64_t index) {
    // Picklers number the memo from 0; a small leap costs nothing, a large one is an attack.
    constexpr uint64_t kMaxLeap = 65536;
    if (index >= memo_.size() + kMaxLeap) {
      throw Fail("pickle.memo", "memo index leaps")
          .Found(std::to_string(index))
          .Expected(fmt::format("less than {}", memo_.size() + kMaxLeap));
    }
    const PickleValue value = Top();
    if (index >= memo_.size()) memo_.resize(index + 1);
    memo_[index] = value;
  }
  void Get(uint64_t index) {
    if (index >= memo_.size() || memo_[index].kind() == Kind::kUnset) {
      throw Fail("pickle.memo", "memo has no such value").Found(fmt::format("index {}", index));
    }
    stack_.push_back(memo_[index]);
  }

  bool Container() {
    switch (op_) {
      case kOpEmptyTuple: Push(Kind::kTuple, 0); return true;
      case kOpTuple1: MakeSmallTuple(1); return true;
      case kOpTuple2: MakeSmallTuple(2); return true;
      case kOpTuple3: MakeSmallTuple(3); return true;
      case kOpTuple: MakeTuple(PopMark()); return true;
      case kOpEmptyList: PushContainer(Kind::kList); return true;
      case kOpEmptyDict: PushContainer(Kind::kDict); return true;
      case kOpEmptySet: PushContainer(Kind::kSet); return true;
      case kOpFrozenSet: MakeTuple(PopMark()); return true;
      case kOpAppend: AppendTop(1, Kind::kList, "a list"); return true;
      case kOpAppends: AppendToContainer(PopMark(), Kind::kList, "a list"); return true;
      case kOpSetItem: AppendTop(2, Kind::kDict, "a dict"); return true;
      case kOpSetItems: AppendToContainer(PopMark(), Kind::kDict, "a dict"); return true;
      case kOpAddItems: AppendToContainer(PopMark(), Kind::kSet, "a set"); return true;
      default: return false;
    }
  }

  void Other() {
    switch (op_) {
      case kOpStop: Stop(); return;
      case kOpProto: Protocol(); return;
      case kOpFrame: Frame(); return;
      case kOpGlobal: {
        const std::string_view module = ReadLine();
        PushGlobal(module, ReadLine());
        return;
      }
      case kOpStackGlobal: {
        const PickleValue name = Pop(), module = Pop();
        if (name.kind() != Kind::kText || module.kind() != Kind::kText) {
          throw Fail("pickle.stack", "name of a global is no text");
        }
        PushGlobal(pickle_.Text(module), pickle_.Text(name));
        return;
      }
      case kOpReduce: case kOpNewObj: Call(); return;
      case kOpBuild: Build(); return;
      case kOpBinPersId: PersistentId(); return;
      default:
        throw Fail("pickle.opcode", "opcode that PyTorch's checkpoints never use")
            .Found(PickleOpcodeName(op_).empty() ? fmt::format("byte {:#04x}", op_)
                                                 : std::string(PickleOpcodeName(op_)))
            .Hint("this pickle may have been made to run code; quern never executes any");
    }
  }

  void Stop() {
    pickle_.root_ = Pop();
    if (!stack_.empty() || !marks_.empty()) {
      throw Fail("pickle.stack", "values are left over at the end");
    }
    stopped_ = true;
  }
  void Protocol() {
    const unsigned version = Read<uint8_t>();
    if (version <= 5) return;
    throw UnsupportedError("pickle.protocol", "pickle of a newer protocol")
        .File(file_)
        .Where("entry " + Quoted(entry_))
        .Found(std::to_string(version))
        .Expected("at most 5")
        .Hint("save it again with torch.save as it is by default, with protocol 2");
  }
  void Frame() {
    const uint64_t length = Read<uint64_t>();
    if (length <= bytes_.size() - position_) return;
    throw Fail("pickle.frame", "frame is longer than the rest of the pickle")
        .Found(fmt::format("{} bytes", length))
        .Expected(fmt::format("at most {} bytes", bytes_.size() - position_));
  }

  void PushGlobal(std::string_view module, std::string_view name) {
    const auto it = std::find_if(pickle_.allowed_.begin(), pickle_.allowed_.end(),
                                 [&](const PickleGlobal& global) {
                                   return global.module == module && global.name == name;
                                 });
    if (it == pickle_.allowed_.end()) {
      throw Fail("pickle.global", "pickle names something that no checkpoint of weights needs")
          .Found("'" + Escaped(module) + "." + Escaped(name) + "'")
          .Hint(
              "quern executes nothing; a file that you trust can be saved again as plain tensors: "
              "torch.save(model.state_dict(), FILE)");
    }
    Push(Kind::kGlobal, it - pickle_.allowed_.begin());
  }

  void Call() {
    const PickleValue args = Pop(), callable = Pop();
    using Role = PickleGlobal::Role;
    const bool is_global = callable.kind() == Kind::kGlobal;
    const Role role = is_global ? pickle_.Global(callable).role : Role::kSymbol;
    if (role == Role::kSymbol) {
      throw Fail("pickle.call", "pickle calls what cannot be called")
          .Found(pickle_.Describe(callable));
    }
    if (args.kind() != Kind::kTuple) {
      throw Fail("pickle.call", "arguments of a call are no tuple").Found(pickle_.Describe(args));
    }
    if (role == Role::kDict) return MakeDict(args);
    const unsigned depth = DepthAbove(args.depth());
    stack_.push_back({Kind::kCall, depth, static_cast<int64_t>(pool().size())});
    pool().push_back(callable);
    pool().push_back(args);
  }
  // OrderedDict() or, from Python 2, OrderedDict([[key, value], …]).
  void MakeDict(PickleValue args) {
    PushContainer(Kind::kDict);
    const size_t begin = stack_.size();
    PickleItems arguments = pickle_.Items(args);
    const PickleValue pairs = arguments.Next().value_or(PickleValue());
    if (pairs.kind() == Kind::kList) {
      PickleItems items = pickle_.Items(pairs);
      while (const auto pair = items.Next()) {
        PickleItems halves = pickle_.Items(*pair);
        const auto key = halves.Next(), value = halves.Next();
        if (!key || !value || halves.Next()) throw Fail("pickle.call", "dict of what are no pairs");
        stack_.push_back(*key);
        stack_.push_back(*value);
        CheckBudget();
      }
    }
    // Not below the floor: the dict was pushed just now.
    AppendToContainer(begin, Kind::kDict, "a dict");
  }

  // State of an object: PyTorch puts _metadata on an OrderedDict. It says nothing about weights.
  void Build() {
    Pop();
    const PickleValue target = Top();
    if (target.kind() == Kind::kDict || target.kind() == Kind::kCall) return;
    throw Fail("pickle.build", "state for a value that has none")
        .Found(pickle_.Describe(target))
        .Expected("an OrderedDict or a tensor");
  }

  // Pops ('storage', class, key, location, number of elements).
  void PersistentId() {
    const PickleValue id = Pop();
    bool is_storage = false;
    if (id.kind() == Kind::kTuple && pickle_.TupleSize(id) == 5) {
      const std::vector<PickleValue> parts = pickle_.TupleItems(id);
      is_storage = pickle_.IsText(parts[0], "storage") && parts[1].kind() == Kind::kGlobal &&
                   parts[2].kind() == Kind::kText && parts[3].kind() == Kind::kText;
    }
    if (!is_storage) {
      throw Fail("torch.persistent-id", "persistent id is not that of a storage")
          .Found(pickle_.Describe(id))
          .Expected("('storage', class, key, location, number of elements)");
    }
    stack_.push_back({Kind::kPersistentId, id.depth(), static_cast<int64_t>(id.payload())});
  }

  Pickle& pickle_;
  ByteView bytes_;
  std::string_view file_, entry_;
  uint64_t position_ = 0;
  uint64_t op_offset_ = 0;
  uint8_t op_ = 0;
  bool stopped_ = false;
  std::deque<PickleValue> stack_, memo_;
  std::vector<size_t> marks_;
};

Pickle Pickle::Parse(std::vector<uint8_t> bytes, std::span<const PickleGlobal> allowed,
                     std::string_view file, std::string_view entry) {
  QUERN_CHECK(bytes.size() <= kPickleMaxBytes);
  Pickle pickle;
  pickle.bytes_ = std::move(bytes);
  pickle.allowed_ = allowed;
  const std::string escaped_file = Escaped(file, 4096);
  PickleMachine(pickle, escaped_file, entry).Run();
  pickle.CheckGraph(escaped_file, entry);
  return pickle;
}

}  // namespace quern
