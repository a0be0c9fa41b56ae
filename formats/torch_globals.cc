#include "formats/torch_globals.h"

namespace quern {
namespace {

enum Element : uint8_t {
  kFloat64, kFloat32, kFloat16, kBFloat16, kInt64, kInt32, kInt16, kInt8, kUInt8, kBool,
  kComplex32, kComplex64, kComplex128, kUInt16, kUInt32, kUInt64,
  kFloat8E4M3, kFloat8E5M2, kFloat8E4M3Fnuz, kFloat8E5M2Fnuz, kFloat8E8M0, kQuantized, kPacked,
};

// In the order of Element.
constexpr TorchElement kElements[] = {
    {"float64", 8, DType::kF64}, {"float32", 4, DType::kF32}, {"float16", 2, DType::kF16},
    {"bfloat16", 2, DType::kBF16}, {"int64", 8, DType::kI64}, {"int32", 4, DType::kI32},
    {"int16", 2, DType::kI16}, {"int8", 1, DType::kI8}, {"uint8", 1, {}}, {"bool", 1, {}},
    {"complex32", 4, {}}, {"complex64", 8, {}}, {"complex128", 16, {}}, {"uint16", 2, {}},
    {"uint32", 4, {}}, {"uint64", 8, {}}, {"float8_e4m3fn", 1, {}}, {"float8_e5m2", 1, {}},
    {"float8_e4m3fnuz", 1, {}}, {"float8_e5m2fnuz", 1, {}}, {"float8_e8m0fnu", 1, {}},
    {"quantized", 0, {}}, {"packed", 0, {}},
};
static_assert(std::size(kElements) == kPacked + 1);

constexpr PickleGlobal Dict(std::string_view module, std::string_view name) {
  return {module, name, PickleGlobal::Role::kDict, 0, 0};
}
constexpr PickleGlobal Callable(std::string_view module, std::string_view name,
                                TorchSymbol symbol = TorchSymbol::kOther) {
  return {module, name, PickleGlobal::Role::kCallable, static_cast<uint8_t>(symbol), 0};
}
constexpr PickleGlobal Symbol(std::string_view module, std::string_view name) {
  return {module, name, PickleGlobal::Role::kSymbol, 0, 0};
}
constexpr PickleGlobal Storage(std::string_view module, std::string_view name, Element element) {
  return {module, name, PickleGlobal::Role::kSymbol, static_cast<uint8_t>(TorchSymbol::kStorage),
          element};
}
constexpr PickleGlobal Type(std::string_view name, Element element) {
  return {"torch", name, PickleGlobal::Role::kSymbol, static_cast<uint8_t>(TorchSymbol::kDType),
          element};
}

constexpr PickleGlobal kGlobals[] = {
    Dict("collections", "OrderedDict"), Dict("collections", "defaultdict"),
    Dict("collections", "Counter"),
    Callable("torch._utils", "_rebuild_tensor", TorchSymbol::kRebuild),
    Callable("torch._utils", "_rebuild_tensor_v2", TorchSymbol::kRebuildV2),
    Callable("torch._utils", "_rebuild_tensor_v3", TorchSymbol::kRebuildV3),
    Callable("torch._utils", "_rebuild_parameter", TorchSymbol::kParameter),
    Callable("torch._utils", "_rebuild_parameter_with_state", TorchSymbol::kParameter),
    Callable("torch._tensor", "_rebuild_from_type_v2", TorchSymbol::kFromType),
    Callable("torch._utils", "_rebuild_sparse_tensor", TorchSymbol::kUnsupported),
    Callable("torch._utils", "_rebuild_sparse_csr_tensor", TorchSymbol::kUnsupported),
    Callable("torch._utils", "_rebuild_nested_tensor", TorchSymbol::kUnsupported),
    Callable("torch._utils", "_rebuild_qtensor", TorchSymbol::kUnsupported),
    Callable("torch._utils", "_rebuild_meta_tensor_no_storage", TorchSymbol::kUnsupported),
    Callable("torch._utils", "_rebuild_wrapper_subclass", TorchSymbol::kUnsupported),
    Callable("torch._utils", "_rebuild_device_tensor_from_numpy", TorchSymbol::kUnsupported),
    Callable("torch._utils", "_rebuild_device_tensor_from_cpu_tensor", TorchSymbol::kUnsupported),
    Callable("torch._utils", "_rebuild_xla_tensor", TorchSymbol::kUnsupported),
    Callable("torch", "Size", TorchSymbol::kSize), Callable("torch", "device"),
    Callable("torch", "Tensor"), Callable("torch.nn.parameter", "Parameter"),
    Callable("torch.serialization", "_get_layout"), Callable("_codecs", "encode"),
    Callable("builtins", "set"), Callable("builtins", "frozenset"),
    Callable("builtins", "complex"), Callable("builtins", "bytearray"),
    Callable("__builtin__", "set"), Callable("__builtin__", "frozenset"),
    Callable("__builtin__", "complex"), Callable("__builtin__", "bytearray"),
    Symbol("builtins", "int"), Symbol("builtins", "float"), Symbol("builtins", "bool"),
    Symbol("builtins", "str"), Symbol("builtins", "dict"), Symbol("builtins", "list"),
    Symbol("__builtin__", "int"), Symbol("__builtin__", "float"), Symbol("__builtin__", "bool"),
    Symbol("__builtin__", "str"), Symbol("__builtin__", "dict"), Symbol("__builtin__", "list"),
    // What protocol 2 calls int and str, as a defaultdict(int) of a training state needs them.
    Symbol("__builtin__", "long"), Symbol("__builtin__", "unicode"),
    Symbol("torch", "per_tensor_affine"), Symbol("torch", "per_channel_affine"),

    Storage("torch", "DoubleStorage", kFloat64), Storage("torch.cuda", "DoubleStorage", kFloat64),
    Storage("torch", "FloatStorage", kFloat32), Storage("torch.cuda", "FloatStorage", kFloat32),
    Storage("torch", "HalfStorage", kFloat16), Storage("torch.cuda", "HalfStorage", kFloat16),
    Storage("torch", "BFloat16Storage", kBFloat16),
    Storage("torch.cuda", "BFloat16Storage", kBFloat16),
    Storage("torch", "LongStorage", kInt64), Storage("torch.cuda", "LongStorage", kInt64),
    Storage("torch", "IntStorage", kInt32), Storage("torch.cuda", "IntStorage", kInt32),
    Storage("torch", "ShortStorage", kInt16), Storage("torch.cuda", "ShortStorage", kInt16),
    Storage("torch", "CharStorage", kInt8), Storage("torch.cuda", "CharStorage", kInt8),
    Storage("torch", "ByteStorage", kUInt8), Storage("torch.cuda", "ByteStorage", kUInt8),
    Storage("torch", "BoolStorage", kBool), Storage("torch.cuda", "BoolStorage", kBool),
    Storage("torch", "ComplexFloatStorage", kComplex64),
    Storage("torch.cuda", "ComplexFloatStorage", kComplex64),
    Storage("torch", "ComplexDoubleStorage", kComplex128),
    Storage("torch.cuda", "ComplexDoubleStorage", kComplex128),
    // Untyped storages count bytes.
    Storage("torch", "UntypedStorage", kUInt8), Storage("torch.cuda", "UntypedStorage", kUInt8),
    Storage("torch.storage", "UntypedStorage", kUInt8),
    Storage("torch.storage", "_UntypedStorage", kUInt8),
    Storage("torch", "QInt8Storage", kQuantized), Storage("torch", "QUInt8Storage", kQuantized),
    Storage("torch", "QInt32Storage", kQuantized), Storage("torch", "QUInt4x2Storage", kQuantized),
    Storage("torch", "QUInt2x4Storage", kQuantized),

    Type("float64", kFloat64), Type("float32", kFloat32), Type("float16", kFloat16),
    Type("bfloat16", kBFloat16), Type("int64", kInt64), Type("int32", kInt32),
    Type("int16", kInt16), Type("int8", kInt8), Type("uint8", kUInt8), Type("bool", kBool),
    Type("complex32", kComplex32), Type("complex64", kComplex64),
    Type("complex128", kComplex128), Type("uint16", kUInt16), Type("uint32", kUInt32),
    Type("uint64", kUInt64), Type("float8_e4m3fn", kFloat8E4M3), Type("float8_e5m2", kFloat8E5M2),
    Type("float8_e4m3fnuz", kFloat8E4M3Fnuz), Type("float8_e5m2fnuz", kFloat8E5M2Fnuz),
    Type("float8_e8m0fnu", kFloat8E8M0), Type("qint8", kQuantized), Type("quint8", kQuantized),
    Type("qint32", kQuantized), Type("quint4x2", kQuantized), Type("quint2x4", kQuantized),
    // Several elements in a byte, or bits of no stated meaning.
    Type("float4_e2m1fn_x2", kPacked), Type("bits1x8", kPacked), Type("bits2x4", kPacked),
    Type("bits4x2", kPacked), Type("bits8", kPacked), Type("bits16", kPacked),
    Type("int1", kPacked), Type("int2", kPacked), Type("int3", kPacked), Type("int4", kPacked),
    Type("int5", kPacked), Type("int6", kPacked), Type("int7", kPacked),
    Type("uint1", kPacked), Type("uint2", kPacked), Type("uint3", kPacked), Type("uint4", kPacked),
    Type("uint5", kPacked), Type("uint6", kPacked), Type("uint7", kPacked),
};

}  // namespace

std::span<const PickleGlobal> AllowedTorchGlobals() { return kGlobals; }

const TorchElement& ElementOf(const PickleGlobal& global) { return kElements[global.detail]; }

}  // namespace quern
