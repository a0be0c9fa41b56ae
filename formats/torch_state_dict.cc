#include "formats/torch_state_dict.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>

#include "formats/core/checked.h"
#include "formats/core/error.h"
#include "formats/torch_globals.h"

namespace quern {
namespace {

using Kind = PickleValue::Kind;

// Where training scripts put the weights. Tried in this order.
constexpr std::string_view kWrappers[] = {"model",  "state_dict", "model_state_dict",
                                          "module", "params",     "ema"};

// A view may show more elements than its storage holds (stride 0), but not without bound.
constexpr uint64_t kMaxExpandedBytes = uint64_t{64} << 20;
// Tensors may share storages (tied weights), but all together must be in proportion to the file.
constexpr uint64_t kMaxSharing = 16;
// How many tensors a file may describe: as many as any model has, and more in large files. (A
// tensor takes quern some 300 bytes, but eight in a pickle that repeats itself.)
constexpr uint64_t kFreeTensors = 131072, kMinBytesPerTensor = 1024;
// No function that makes tensors has as many arguments.
constexpr uint64_t kMaxArguments = 16;
// Keys of storages are decimal numbers.
constexpr size_t kMaxKeyBytes = 256;
// Wrappers within wrappers.
constexpr unsigned kMaxWrapperDepth = 2;

// Storages that are entries of a whole archive.
class ArchiveStorages final : public StorageTable {
 public:
  explicit ArchiveStorages(const ZipArchive& archive) : archive_(archive) {}
  const RandomAccessBytes& file() const override { return archive_.bytes(); }
  std::optional<TorchStorage> Find(std::string_view name, uint64_t /*size_bytes*/) override {
    const ZipEntry* entry = archive_.Find(name);
    if (entry == nullptr) return std::nullopt;
    return TorchStorage{entry->name, entry->data_offset, entry->size_bytes, entry->crc32};
  }

 private:
  const ZipArchive& archive_;
};

class StateDictReader {
 public:
  StateDictReader(const Pickle& pickle, std::string_view prefix, StorageTable& storages)
      : pickle_(pickle),
        storages_(storages),
        prefix_(prefix),
        file_(Escaped(storages.file().name(), 4096)) {}

  TorchStateDict Read() {
    const PickleValue root = pickle_.root();
    if (root.kind() != Kind::kDict) {
      throw UnsupportedError("torch.root", "checkpoint holds no state dict")
          .File(file_)
          .Found(pickle_.Describe(root))
          .Expected("a dict of tensors")
          .Hint("save it again with torch.save(model.state_dict(), FILE)");
    }
    const auto dict = FindTensors(root, 0);
    if (!dict) {
      throw DataError("torch.no-tensors", "checkpoint holds no tensors")
          .File(file_)
          .Expected("a dict of tensors, at the top or below 'model' or 'state_dict'")
          .Hint("save the weights alone: torch.save(model.state_dict(), FILE)");
    }
    for (const auto& [name, value] : NamedTensors(*dict)) AddTensor(name, value);
    StripWrapperPrefixes(state_.tensors);
    return std::move(state_);
  }

 private:
  // --- finding the tensors ----------------------------------------------------------------------

  TorchSymbol SymbolOfCall(PickleValue value) const {
    if (value.kind() != Kind::kCall) return TorchSymbol::kOther;
    return SymbolOf(pickle_.Global(pickle_.Callable(value)));
  }
  bool IsTensor(PickleValue value) const {
    const TorchSymbol symbol = SymbolOfCall(value);
    return symbol != TorchSymbol::kOther && symbol != TorchSymbol::kSize;
  }

  // Returns the first dict with tensors among those below `dict` that wrappers name, and `dict`
  // itself. (A wrapper may hold tensors too: {'model': {…}, 'best_loss': tensor}.)
  std::optional<PickleValue> FindTensors(PickleValue dict, unsigned depth) const {
    std::optional<PickleValue> inner[std::size(kWrappers)];
    bool has_tensors = false;
    PickleItems items = pickle_.Items(dict);
    while (const auto key = items.Next()) {
      const PickleValue value = *items.Next();
      has_tensors = has_tensors || IsTensor(value);
      if (key->kind() != Kind::kText || value.kind() != Kind::kDict) continue;
      const auto wrapper = std::ranges::find(kWrappers, pickle_.Text(*key));
      if (wrapper == std::end(kWrappers)) continue;
      auto& slot = inner[wrapper - std::begin(kWrappers)];
      if (slot) {
        throw DataError("torch.ambiguous", "dict has the same key twice")
            .File(file_)
            .Where("key " + Quoted(*wrapper))
            .Hint("save the weights alone: torch.save(model.state_dict(), FILE)");
      }
      slot = value;
    }
    for (const auto& wrapped : inner) {
      if (!wrapped || depth == kMaxWrapperDepth) continue;
      if (const auto found = FindTensors(*wrapped, depth + 1)) return found;
    }
    return has_tensors ? std::optional(dict) : std::nullopt;
  }

  struct NamedTensor {
    std::string_view name;
    PickleValue value;
  };
  // Returns the tensors of `dict`, whose names are distinct.
  std::vector<NamedTensor> NamedTensors(PickleValue dict) {
    const uint64_t limit = kFreeTensors + storages_.file().size_bytes() / kMinBytesPerTensor;
    std::vector<NamedTensor> tensors;
    std::vector<std::string_view> names;
    PickleItems items = pickle_.Items(dict);
    while (const auto key = items.Next()) {
      const PickleValue value = *items.Next();
      if (!IsTensor(value)) continue;
      name_ = key->kind() == Kind::kText ? pickle_.Text(*key) : std::string_view();
      if (name_.empty()) {
        throw Fail("torch.tensor-name", "name of a tensor is no text")
            .Found(pickle_.Describe(*key));
      }
      if (tensors.size() == limit) {
        throw Fail("torch.too-many-tensors", "more tensors than a file of this size can hold")
            .Expected(fmt::format("at most {}", limit));
      }
      tensors.push_back({name_, value});
      names.push_back(name_);
    }
    // First by place: one text that is the name of many tensors must not be compared with itself
    // again and again. What is left are distinct texts, together no longer than the pickle.
    const auto refuse_twice = [&](auto key) {
      std::ranges::sort(names, {}, key);
      const auto twice = std::ranges::adjacent_find(names, {}, key);
      if (twice == names.end()) return;
      name_ = *twice;
      throw Fail("torch.duplicate-tensor", "two tensors have the same name");
    };
    refuse_twice([](std::string_view name) { return name.data(); });
    refuse_twice(std::identity{});
    return tensors;
  }

  // --- one tensor -------------------------------------------------------------------------------

  Error Fail(std::string_view id, std::string_view what) const {
    return DataError(id, what)
        .File(file_)
        .Tensor(name_)
        .Hint("the file is damaged or not by PyTorch: fetch it again, or save it with torch.save");
  }

  // The call that makes the array, without what PyTorch wraps around it.
  struct Rebuild {
    TorchSymbol symbol = TorchSymbol::kOther;
    PickleValue function;
    std::vector<PickleValue> args;
  };

  void AddTensor(std::string_view name, PickleValue value) {
    name_ = name;
    const Rebuild rebuild = UnwrapTensor(value);
    TorchTensor tensor;
    tensor.name = name_;
    tensor.storage_offset_elems = Size(rebuild.args[1], "torch.bounds", "storage offset");
    const std::vector<PickleValue> sizes = Dimensions(rebuild.args[2], "shape");
    const std::vector<PickleValue> strides = Dimensions(rebuild.args[3], "strides");
    if (strides.size() != sizes.size()) {
      throw Fail("torch.stride", "tensor has not as many strides as dimensions")
          .Found(std::to_string(strides.size()))
          .Expected(std::to_string(sizes.size()));
    }
    for (const PickleValue size : sizes) {
      if (size.kind() == Kind::kBigInt && !pickle_.IsNegative(size)) {
        throw Fail("torch.tensor-too-large", "tensor is far larger than its storage")
            .Found("a dimension of " + pickle_.Describe(size));
      }
      tensor.shape.push_back(Size(size, "torch.shape", "size"));
    }
    for (const PickleValue stride : strides) {
      tensor.strides.push_back(Size(stride, "torch.stride", "stride"));
    }
    SetStorage(rebuild, tensor);
    state_.tensors.push_back(std::move(tensor));
  }

  Rebuild MakeRebuild(PickleValue function, PickleValue args) const {
    Rebuild rebuild{SymbolOf(pickle_.Global(function)), function, {}};
    const uint64_t n_args = pickle_.TupleSize(args);
    if (n_args > kMaxArguments) throw BadArguments(function, n_args);
    rebuild.args = pickle_.TupleItems(args);
    return rebuild;
  }

  Rebuild UnwrapTensor(PickleValue value) const {
    const auto of_call = [&](PickleValue call) {
      return MakeRebuild(pickle_.Callable(call), pickle_.Arguments(call));
    };
    Rebuild rebuild = of_call(value);
    while (rebuild.symbol == TorchSymbol::kParameter || rebuild.symbol == TorchSymbol::kFromType) {
      const std::vector<PickleValue>& args = rebuild.args;
      if (rebuild.symbol == TorchSymbol::kParameter) {
        if (args.empty() || !IsTensor(args[0]))
          throw BadArguments(rebuild.function, rebuild.args.size());
        rebuild = of_call(PickleValue(args[0]));
      } else {
        const bool is_call =
            args.size() == 4 && args[0].kind() == Kind::kGlobal && args[2].kind() == Kind::kTuple;
        if (!is_call) throw BadArguments(rebuild.function, rebuild.args.size());
        rebuild = MakeRebuild(PickleValue(args[0]), PickleValue(args[2]));
      }
    }
    const TorchSymbol symbol = rebuild.symbol;
    if (symbol == TorchSymbol::kUnsupported) {
      throw UnsupportedError("torch.unsupported-tensor", "tensor is no plain array")
          .File(file_)
          .Tensor(name_)
          .Found(pickle_.Describe(rebuild.function))
          .Hint("save it again as a dense, unquantized tensor");
    }
    const bool is_known = symbol == TorchSymbol::kRebuild || symbol == TorchSymbol::kRebuildV2 ||
                          symbol == TorchSymbol::kRebuildV3;
    const size_t n_args = symbol == TorchSymbol::kRebuild     ? 4
                          : symbol == TorchSymbol::kRebuildV2 ? 6
                                                              : 7;
    const size_t n_optional = symbol == TorchSymbol::kRebuild ? 0 : 1;
    if (!is_known || rebuild.args.size() < n_args || rebuild.args.size() > n_args + n_optional ||
        rebuild.args[0].kind() != Kind::kPersistentId) {
      throw BadArguments(rebuild.function, rebuild.args.size());
    }
    if (rebuild.args.size() > n_args) RefuseMetadata(rebuild, rebuild.args.back());
    return rebuild;
  }
  // A tensor may say that its elements are to be negated or conjugated when they are read: a view
  // that PyTorch made without touching the storage. Nothing else is known to stand there.
  void RefuseMetadata(const Rebuild& rebuild, PickleValue metadata) const {
    if (metadata.kind() == Kind::kNone) return;
    if (metadata.kind() != Kind::kDict) throw BadArguments(rebuild.function, rebuild.args.size());
    const auto key = pickle_.Items(metadata).Next();
    if (!key) return;
    throw UnsupportedError("torch.unsupported-tensor",
                           "tensor is a lazy view, not stored as the values that it shows")
        .File(file_)
        .Tensor(name_)
        .Found("metadata " +
               (key->kind() == Kind::kText ? Quoted(pickle_.Text(*key)) : pickle_.Describe(*key)))
        .Expected("no metadata")
        .Hint("save it again after tensor.resolve_neg().resolve_conj()");
  }
  Error BadArguments(PickleValue function, uint64_t n_args) const {
    return Fail("torch.tensor-args", "tensor is made in a way that PyTorch never writes")
        .Found(fmt::format("{} with {} arguments", pickle_.Describe(function), n_args));
  }

  // Returns the items of a tuple or a torch.Size, as many as a tensor may have dimensions.
  std::vector<PickleValue> Dimensions(PickleValue value, std::string_view what) const {
    if (SymbolOfCall(value) == TorchSymbol::kSize) {
      const PickleValue args = pickle_.Arguments(value);
      if (pickle_.TupleSize(args) == 1) value = *pickle_.Items(args).Next();
    }
    if (value.kind() != Kind::kTuple) {
      throw Fail("torch.tensor-args", fmt::format("{} of the tensor is no tuple", what))
          .Found(pickle_.Describe(value));
    }
    const uint64_t rank = pickle_.TupleSize(value);
    if (rank > kTorchMaxRank) {
      throw Fail("torch.rank", "tensor has too many dimensions")
          .Found(std::to_string(rank))
          .Expected(fmt::format("at most {}", kTorchMaxRank));
    }
    return pickle_.TupleItems(value);
  }
  uint64_t Size(PickleValue value, std::string_view id, std::string_view what) const {
    if (value.kind() == Kind::kInt && pickle_.Int(value) >= 0) {
      return static_cast<uint64_t>(pickle_.Int(value));
    }
    throw Fail(id, fmt::format("{} cannot be used", what))
        .Found(pickle_.Describe(value))
        .Expected("an integer of at most 51 bits, not negative");
  }

  // --- its storage ------------------------------------------------------------------------------

  void SetStorage(const Rebuild& rebuild, TorchTensor& tensor) {
    const std::vector<PickleValue> id = pickle_.TupleItems(rebuild.args[0]);
    const PickleGlobal& storage_class = pickle_.Global(id[1]);
    if (SymbolOf(storage_class) != TorchSymbol::kStorage) {
      throw Fail("torch.persistent-id", "class of the storage is none")
          .Found(pickle_.Describe(id[1]));
    }
    const uint64_t n_stored =
        Size(id[4], "torch.storage-size", "number of elements of the storage");
    const TorchElement& stored = ElementOf(storage_class);
    const TorchElement& element = ElementOfTensor(rebuild, stored);
    if (stored.bytes == 0 || element.bytes == 0) {
      throw UnsupportedError("torch.dtype", "elements are no plain numbers")
          .File(file_)
          .Tensor(name_)
          .Found(pickle_.Describe(rebuild.symbol == TorchSymbol::kRebuildV3 ? rebuild.args[6] : id[1]))
          .Hint("save the tensor dequantized, as float16, bfloat16 or float32");
    }
    tensor.dtype = element.dtype;
    tensor.dtype_name = element.name;
    tensor.elem_bytes = element.bytes;
    const auto storage_bytes = CheckedMul(n_stored, stored.bytes);
    if (!storage_bytes) {
      throw Fail("torch.storage-size", "size of the storage does not fit 64 bits")
          .Found(std::to_string(n_stored));
    }
    CheckExtent(tensor, *storage_bytes);
    tensor.storage = FindStorage(pickle_.Text(id[2]), *storage_bytes);
  }

  const TorchElement& ElementOfTensor(const Rebuild& rebuild, const TorchElement& stored) const {
    if (rebuild.symbol != TorchSymbol::kRebuildV3) return stored;
    const PickleValue dtype = rebuild.args[6];
    if (dtype.kind() != Kind::kGlobal || SymbolOf(pickle_.Global(dtype)) != TorchSymbol::kDType) {
      throw BadArguments(rebuild.function, rebuild.args.size());
    }
    return ElementOf(pickle_.Global(dtype));
  }

  void CheckExtent(const TorchTensor& tensor, uint64_t storage_bytes) const {
    // Zeros count as one, so that no order of dimensions hides an overflow.
    std::optional<uint64_t> bytes = tensor.elem_bytes;
    for (const uint64_t size : tensor.shape) {
      if (bytes) bytes = CheckedMul(*bytes, std::max<uint64_t>(size, 1));
    }
    const bool is_empty = std::ranges::count(tensor.shape, 0u) > 0;
    if (!bytes || (!is_empty && *bytes > storage_bytes + kMaxExpandedBytes)) {
      throw Fail("torch.tensor-too-large", "tensor is far larger than its storage")
          .Found(bytes ? fmt::format("{} bytes", *bytes) : "more than 64 bits can count")
          .Expected(fmt::format("{} bytes of storage", storage_bytes));
    }
    if (is_empty) return;
    std::optional<uint64_t> last = tensor.storage_offset_elems;
    for (size_t k = 0; k < tensor.shape.size() && last; ++k) {
      const auto step = CheckedMul(tensor.shape[k] - 1, tensor.strides[k]);
      last = step ? CheckedAdd(*last, *step) : std::nullopt;
    }
    const uint64_t n_elems = storage_bytes / tensor.elem_bytes;
    if (!last || *last >= n_elems) {
      throw Fail("torch.bounds", "tensor reaches beyond its storage")
          .Found(last ? fmt::format("element {}", *last) : "an element beyond 64 bits")
          .Expected(fmt::format("less than {}", n_elems));
    }
  }

  // Returns the index of the storage with that key, which must have that size.
  uint32_t FindStorage(std::string_view key, uint64_t storage_bytes) {
    const std::string name = fmt::format("{}/data/{}", prefix_, key.substr(0, kMaxKeyBytes));
    const auto storage = key.size() > kMaxKeyBytes ? std::nullopt : storages_.Find(name, storage_bytes);
    if (!storage) {
      throw Fail("torch.storage-missing", "archive has no entry for the tensor's storage")
          .Expected("entry " + Quoted(name));
    }
    if (storage->size_bytes != storage_bytes) {
      throw Fail("torch.storage-size", "entry " + Quoted(name) + " has another size than declared")
          .Found(fmt::format("{} bytes", storage->size_bytes))
          .Expected(fmt::format("{} bytes", storage_bytes));
    }
    const auto next = static_cast<uint32_t>(state_.storages.size());
    const auto [index, is_new] = index_of_entry_.emplace(storage->entry.data(), next);
    if (is_new) state_.storages.push_back(*storage);
    return index->second;
  }

  const Pickle& pickle_;
  StorageTable& storages_;
  std::string_view prefix_;
  std::string file_;
  std::unordered_map<const char*, uint32_t> index_of_entry_;  // by TorchStorage::entry
  std::string_view name_;  // of the tensor being read
  TorchStateDict state_;
};

void CheckTotals(const TorchStateDict& state, const RandomAccessBytes& file) {
  const uint64_t file_bytes = file.size_bytes();
  uint64_t total = 0;
  for (const TorchTensor& tensor : state.tensors) {
    const auto sum = CheckedAdd(total, tensor.size_bytes());
    total = sum.value_or(UINT64_MAX);
    if (total / kMaxSharing <= file_bytes + kMaxExpandedBytes) continue;
    throw DataError("torch.tensor-too-large", "tensors together are far larger than the file")
        .File(Escaped(file.name(), 4096))
        .Tensor(tensor.name)
        .Found(fmt::format("{} bytes", total))
        .Expected(fmt::format("at most {} times {} bytes", kMaxSharing, file_bytes))
        .Hint("the file is made to mislead: fetch it again from its publisher");
  }
}

}  // namespace

TorchStateDict ReadTorchStateDict(const Pickle& pickle, std::string_view prefix,
                                  StorageTable& storages) {
  return StateDictReader(pickle, prefix, storages).Read();
}

TorchStateDict ReadTorchStateDict(const Pickle& pickle, const ZipArchive& archive,
                                  std::string_view prefix) {
  ArchiveStorages storages(archive);
  TorchStateDict state = ReadTorchStateDict(pickle, prefix, storages);
  CheckTotals(state, archive.bytes());
  return state;
}

void StripWrapperPrefixes(std::span<TorchTensor> tensors) {
  constexpr std::string_view kInfix = "_fsdp_wrapped_module.";
  std::vector<std::string_view> names;
  for (TorchTensor& tensor : tensors) {
    std::string plain;
    for (size_t begin = 0; begin < tensor.name.size();) {
      const size_t infix = std::min(tensor.name.find(kInfix, begin), tensor.name.size());
      plain.append(tensor.name, begin, infix - begin);
      begin = infix + kInfix.size();
    }
    if (!plain.empty()) tensor.name = std::move(plain);
    names.push_back(tensor.name);
  }
  const auto strip = [&](std::string_view prefix) {
    const auto has_it = [&](std::string_view name) {
      return name.size() > prefix.size() && name.starts_with(prefix);
    };
    if (!std::ranges::all_of(names, has_it)) return false;
    for (std::string_view& name : names) name.remove_prefix(prefix.size());
    return true;
  };
  while (!names.empty() && (strip("module.") || strip("_orig_mod.") || strip("_forward_module."))) {
  }
  // Hugging Face's names begin with "model." too, and theirs must stay.
  if (std::ranges::find(names, "model.tok_embeddings.weight") != names.end()) strip("model.");
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].name = std::string(names[i]);
}

}  // namespace quern
