#include "formats/pickle.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/formats/testing.h"
#include "tests/formats/torch_builder.h"

namespace quern {
namespace {

using testing::Le16;
using testing::Le32;
using testing::Le64;
using testing::PkDict;
using testing::PkGlobal;
using testing::PkInt;
using testing::PkText;
using testing::PkTuple;
using Kind = PickleValue::Kind;
using std::string_literals::operator""s;

constexpr PickleGlobal kAllowed[] = {
    {"collections", "OrderedDict", PickleGlobal::Role::kDict},
    {"m", "call", PickleGlobal::Role::kCallable},
    {"m", "symbol", PickleGlobal::Role::kSymbol},
};

Pickle Parse(const std::string& text) {
  return Pickle::Parse({text.begin(), text.end()}, kAllowed, "x.pth", "a/data.pkl");
}

// Returns the graph as one would write it in Python, so that whole graphs compare as text.
std::string Print(const Pickle& pickle, PickleValue value) {
  std::string items;
  size_t n = 0;
  PickleItems walk = pickle.Items(value);
  while (const auto item = walk.Next()) {
    const bool is_value = value.kind() == Kind::kDict && n % 2 == 1;
    items += (n == 0 ? "" : is_value ? ": " : ", ") + Print(pickle, *item);
    ++n;
  }
  switch (value.kind()) {
    case Kind::kText: return std::string(pickle.Text(value));
    case Kind::kTuple: return "(" + items + ")";
    case Kind::kList: return "[" + items + "]";
    case Kind::kDict: return "{" + items + "}";
    case Kind::kSet: return "set{" + items + "}";
    case Kind::kCall: return "call(" + items + ")";
    case Kind::kPersistentId: return "id(" + items + ")";
    default: return pickle.Describe(value);
  }
}
std::string Parsed(const std::string& text) {
  const Pickle pickle = Parse(text);
  return Print(pickle, pickle.root());
}

void ExpectRefused(const std::string& text, std::string_view id,
                   const std::vector<std::string>& words = {}, ErrorCode code = ErrorCode::kData) {
  testing::ExpectError([&] { Parse(text); }, code, id, words);
}

TEST(PickleTest, ReadsEveryScalar) {
  EXPECT_EQ(Parsed("\x80\x02N."), "None");
  EXPECT_EQ(Parsed("\x88."), "True");
  EXPECT_EQ(Parsed("\x89."), "False");
  EXPECT_EQ(Parsed("K\xFF."), "255");
  EXPECT_EQ(Parsed("M\xFF\xFF."), "65535");
  EXPECT_EQ(Parsed("J\xFE\xFF\xFF\xFF."), "-2");
  EXPECT_EQ(Parsed("\x8a\x00."s), "0");
  EXPECT_EQ(Parsed("\x8a\x01\xFF."), "-1");
  EXPECT_EQ(Parsed("\x8a\x02\x00\x80."s), "-32768");
  EXPECT_EQ(Parsed("\x8a\x05\x00\x00\x00\x80\x00."s), "2147483648");
  EXPECT_EQ(Parsed("\x8a\x08" + Le64(uint64_t{1} << 50) + "."), "1125899906842624");
  EXPECT_EQ(Parsed("\x8a\x08" + Le64(uint64_t{1} << 51) + "."), "2251799813685248");
  EXPECT_EQ(Parsed("\x8a\x08" + Le64(uint64_t{1} << 62) + "."), "4611686018427387904");
  EXPECT_EQ(Parsed("\x8a\x08" + Le64(uint64_t{1} << 63) + "."), "-9223372036854775808");
  EXPECT_EQ(Parsed("\x8a\x09" + Le64(UINT64_MAX) + "\x00."s), "18446744073709551615");
  EXPECT_EQ(Parsed("\x8a\x09" + Le64(0) + "\x01."s), "18446744073709551616");
  EXPECT_EQ(Parsed("\x8a\x09" + Le64(0) + "\xFF."s), "-18446744073709551616");
  EXPECT_EQ(Parsed("\x8b" + Le32(33) + std::string(32, '\0') + "\x01."s), "an integer of 33 bytes");
  // Bytes that only repeat the sign are none of the number.
  EXPECT_EQ(Parsed("\x8a\x09" + Le64(1) + "\x00."s), "1");
  EXPECT_EQ(Parsed("\x8a\x09" + Le64(UINT64_MAX - 4) + "\xFF."s), "-5");
  EXPECT_EQ(Parsed("\x8b" + Le32(1000) + "\x07" + std::string(999, '\0') + "."), "7");
  EXPECT_EQ(Parsed("\x8a\x09" + Le64(uint64_t{1} << 40) + "\x00."s), "1099511627776");
  EXPECT_EQ(Parsed("\x8b" + Le32(2) + "\x01\x02."), "513");
  EXPECT_EQ(Parsed("G" + std::string(8, 'x') + "."), "a float");
  EXPECT_EQ(Parsed("X" + Le32(3) + "abc."), "abc");
  EXPECT_EQ(Parsed("\x8c\x03" + "abc."s), "abc");
  EXPECT_EQ(Parsed("\x8d" + Le64(3) + "abc."), "abc");
  EXPECT_EQ(Parsed("U\x03" + "abc."s), "abc");
  EXPECT_EQ(Parsed("T" + Le32(3) + "abc."), "abc");
  for (const std::string& bytes :
       {"C\x02\xFF\xFF."s, "B" + Le32(1) + "\xFF.", "\x8e" + Le64(0) + "."}) {
    EXPECT_EQ(Parsed(bytes), "bytes");
  }
  EXPECT_EQ(Parsed("cm\nsymbol\n."), "m.symbol");
}

TEST(PickleTest, BuildsContainers) {
  EXPECT_EQ(Parsed(")."), "()");
  EXPECT_EQ(Parsed("(t."), "()");
  EXPECT_EQ(Parsed("N\x85."), "(None)");
  EXPECT_EQ(Parsed("NN\x86."), "(None, None)");
  EXPECT_EQ(Parsed("NN\x88\x87."), "(None, None, True)");
  EXPECT_EQ(Parsed("(K\1(K\2K\3tK\4t."), "(1, (2, 3), 4)");
  EXPECT_EQ(Parsed("]."), "[]");
  EXPECT_EQ(Parsed("](K\1K\2eK\3a(e(K\4e."), "[1, 2, 3, 4]");
  EXPECT_EQ(Parsed("}(K\1NK\2\x88uK\3\x89s(u."), "{1: None, 2: True, 3: False}");
  EXPECT_EQ(Parsed("\x8f(K\1K\2\x90."), "set{1, 2}");
  EXPECT_EQ(Parsed("(K\1K\2\x91."), "(1, 2)");
  EXPECT_EQ(Parsed("}X\1\0\0\0a]K\1as."s), "{a: [1]}");
  // A batch of 1,000, as CPython writes them, and more.
  std::string many = "}";
  for (int batch = 0; batch < 3; ++batch) {
    many += "(";
    for (int i = 0; i < 1000; ++i) many += "M" + Le16(static_cast<uint64_t>(i)) + "N";
    many += "u";
  }
  const Pickle pickle = Parse(many + ".");
  PickleItems items = pickle.Items(pickle.root());
  int n = 0;
  while (items.Next()) ++n;
  EXPECT_EQ(n, 6000);
}

TEST(PickleTest, KeepsTheMemoAndTheStack) {
  EXPECT_EQ(Parsed("(K\1q\0K\2q\1h\0h\1t."s), "(1, 2, 1, 2)");
  EXPECT_EQ(Parsed("(K\1r\0\1\0\0j\0\1\0\0t."s), "(1, 1)");
  EXPECT_EQ(Parsed("(K\1\x94K\2\x94h\1h\0t."s), "(1, 2, 2, 1)");
  // What a list holds when it is memoized is not what it holds at the end.
  EXPECT_EQ(Parsed("(]q\0K\1ah\0K\2a0h\0t."s), "([1, 2], [1, 2])");
  EXPECT_EQ(Parsed("(K\1K\2"
                   "0t."),
            "(1)");
  EXPECT_EQ(Parsed("K\1(K\2"
                   "1."),
            "1");
  EXPECT_EQ(Parsed("K\1(0."), "1");
  EXPECT_EQ(Parsed("K\1"
                   "2\x86."),
            "(1, 1)");
  EXPECT_EQ(Parsed("\x80\x04\x95" + Le64(2) + "N."), "None");
}

TEST(PickleTest, CallsStaySymbolic) {
  EXPECT_EQ(Parsed("cm\ncall\n(K\1tR."), "call(m.call, (1))");
  EXPECT_EQ(Parsed("cm\ncall\n(K\1t\x81."), "call(m.call, (1))");
  EXPECT_EQ(Parsed("\x8c\1m\x8c\4call\x93)R."), "call(m.call, ())");
  EXPECT_EQ(Parsed("ccollections\nOrderedDict\n)RK\1Ns."), "{1: None}");
  EXPECT_EQ(Parsed("ccollections\nOrderedDict\n)R}(K\1Nub."), "{}");
  // Python 2 gives the items as an argument.
  EXPECT_EQ(Parsed("ccollections\nOrderedDict\n(](](K\1K\2e](K\3K\4eetR."), "{1: 2, 3: 4}");
  EXPECT_EQ(Parsed("(X\7\0\0\0storagecm\nsymbol\nX\1\0\0\0"
                   "0X\3\0\0\0cpuK\x09tQ."s),
            "id(storage, m.symbol, 0, cpu, 9)");
}

TEST(PickleTest, RefusesForeignNames) {
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"os", "system"},
                                                        {"builtins", "eval"},
                                                        {"m", "call2"},
                                                        {"m", ""},
                                                        {"", "call"},
                                                        {"m.call", ""},
                                                        {"m", "symbol.__class__"},
                                                        {"collections", "orderedDict"}}) {
    const std::string word = "'" + module + "." + name + "'";
    ExpectRefused(PkGlobal(module, name) + ")R.", "pickle.global", {word, "GLOBAL"});
    ExpectRefused(PkText(module) + PkText(name) + "\x93)R.", "pickle.global", {word});
  }
  ExpectRefused("c\x1b[2J\nx\n.", "pickle.global", {"\\x1b[2J.x"});
  ExpectRefused("cm\nsymbol\n)R.", "pickle.call", {"m.symbol"});
  ExpectRefused("cm\nsymbol\n)\x81.", "pickle.call");
  ExpectRefused("K\1)R.", "pickle.call", {"1"});
  ExpectRefused("cm\ncall\nNR.", "pickle.call", {"None"});
  ExpectRefused("cm\ncall\n)R)R.", "pickle.call");
  ExpectRefused("cm\ncall\n}b.", "pickle.build", {"m.call"});
  ExpectRefused("]}b.", "pickle.build", {"a list"});
  ExpectRefused("K\1K\2\x93.", "pickle.stack");
  ExpectRefused("cm", "pickle.truncated", {"GLOBAL"});
  ExpectRefused("cm\ncall", "pickle.truncated", {"GLOBAL"});
  ExpectRefused("ccollections\nOrderedDict\n(](](K\1eetR.", "pickle.call");
}

TEST(PickleTest, RefusesEveryOtherOpcodeByName) {
  const std::vector<std::pair<char, std::string>> known = {{'I', "INT"},
                                                           {'L', "LONG"},
                                                           {'F', "FLOAT"},
                                                           {'S', "STRING"},
                                                           {'V', "UNICODE"},
                                                           {'P', "PERSID"},
                                                           {'i', "INST"},
                                                           {'o', "OBJ"},
                                                           {'d', "DICT"},
                                                           {'l', "LIST"},
                                                           {'p', "PUT"},
                                                           {'g', "GET"},
                                                           {'\x82', "EXT1"},
                                                           {'\x83', "EXT2"},
                                                           {'\x84', "EXT4"},
                                                           {'\x92', "NEWOBJ_EX"},
                                                           {'\x97', "NEXT_BUFFER"},
                                                           {'\x98', "READONLY_BUFFER"}};
  for (const auto& [opcode, name] : known) {
    ExpectRefused("\x80\2("s + opcode + "1\n.", "pickle.opcode", {name, "byte offset 3"});
  }
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text = std::string(1, static_cast<char>(byte)) + std::string(16, '\0');
    EXPECT_THROW(Parse(text), Error) << byte;
  }
  ExpectRefused("\xFF.", "pickle.opcode", {"0xff"});
  ExpectRefused("\x80\x06N.", "pickle.protocol", {"6"}, ErrorCode::kUnsupported);
}

TEST(PickleTest, RefusesTruncationAnywhere) {
  const std::string good =
      testing::PkStateDict({{"w", testing::PkTensor()}, {"n", PkInt(1) + "\x94"}});
  const std::vector<PickleGlobal> allowed = {
      {"torch", "FloatStorage"},
      {"torch._utils", "_rebuild_tensor_v2", PickleGlobal::Role::kCallable},
      {"collections", "OrderedDict", PickleGlobal::Role::kDict}};
  for (size_t n = 0; n < good.size(); ++n) {
    testing::ExpectError(
        [&] {
          Pickle::Parse({good.begin(), good.begin() + static_cast<ptrdiff_t>(n)}, allowed, "x",
                        "e");
        },
        ErrorCode::kData, "pickle.truncated");
  }
  for (const std::string& text : {"X" + Le32(0xFFFFFFFF) + "abc",
                                  "\x8d" + Le64(UINT64_MAX) + "abc",
                                  "\x8e" + Le64(UINT64_MAX) + "abc",
                                  "\x96" + Le64(UINT64_MAX) + "abc",
                                  "B" + Le32(4) + "abc",
                                  "C\4abc"s,
                                  "U\4abc"s,
                                  "T" + Le32(4) + "abc",
                                  "T" + Le32(0x80000000) + "abc",
                                  "\x8b" + Le32(0x80000000),
                                  "\x8a\4abc"s,
                                  "G1234567"s,
                                  "J123"s,
                                  "M1"s,
                                  "K"s,
                                  "q"s,
                                  "r123"s,
                                  "h"s,
                                  "j123"s,
                                  "\x80"s,
                                  "\x95"
                                  "1234567"s}) {
    ExpectRefused(text, "pickle.truncated");
  }
  ExpectRefused("\x95" + Le64(3) + "N.", "pickle.frame", {"3 bytes"});
  ExpectRefused("N.N", "input.trailing-data", {"1 bytes"});
  ExpectRefused("", "pickle.truncated", {"STOP"});
}

TEST(PickleTest, RefusesMisuseOfStackAndMemo) {
  for (const std::string& text :
       {"."s,        "0."s,  "2."s,   "1."s,    "t."s,   "e."s,     "u."s,    "\x90."s, "\x91."s,
        "a."s,       "s."s,  "Q."s,   "R."s,    "b."s,   "q\0."s,   "\x94."s, "\x85."s, "N\x86."s,
        "NN\x87."s,  "]a."s, "}Ns."s, "NR."s,   "NN."s,  "N(."s,    "(."s,    "](a."s,  "}(NNs."s,
        "](N\x86."s, "(e."s, "(u."s,  "}(Nu."s, "N(2."s, "N(q\0."s, "\x81."s, "N\x93."s}) {
    ExpectRefused(text, "pickle.stack");
  }
  ExpectRefused("h\0."s, "pickle.memo", {"0"});
  ExpectRefused("Nq\5h\4.", "pickle.memo", {"4"});
  ExpectRefused("Nr" + Le32(0xFFFFFFFF) + ".", "pickle.memo", {"4294967295"});
  ExpectRefused("j" + Le32(0xFFFFFFFF) + ".", "pickle.memo", {"4294967295"});
  ExpectRefused("}Na.", "pickle.container", {"a dict", "a list"});
  ExpectRefused("]NNs.", "pickle.container");
  ExpectRefused(")(Ne.", "pickle.container", {"a tuple of 0"});
  ExpectRefused("](N\x90.", "pickle.container");
  ExpectRefused("N(NNu.", "pickle.container");
}

TEST(PickleTest, RefusesTextThatIsNoUtf8) {
  for (const std::string& text :
       {"X" + Le32(2) + "\xC3(."s, "U\2\xC3(."s, "\x8c\2\xC3(."s, "T" + Le32(2) + "\xC3(."}) {
    ExpectRefused(text, "text.utf8", {"offset", "\\xc3("});
  }
}

TEST(PickleTest, RefusesPersistentIdsOfNoStorage) {
  const std::string cls = PkGlobal("m", "symbol");
  const auto id = [&](std::vector<std::string> parts) { return PkTuple(parts) + "Q."; };
  EXPECT_EQ(Parse(id({PkText("storage"), cls, PkText("0"), PkText("cpu"), "N"})).root().kind(),
            Kind::kPersistentId);
  for (const std::string& text :
       {"K\1Q."s, PkText("0") + "Q.", ")Q."s, id({PkText("storage")}),
        id({PkText("storage"), cls, PkText("0"), PkText("cpu"), PkInt(4), "N"}),  // the legacy form
        id({PkText("module"), cls, PkText("0"), PkText("cpu"), PkInt(4)}),
        id({PkText("storage"), PkText("FloatStorage"), PkText("0"), PkText("cpu"), PkInt(4)}),
        id({PkText("storage"), cls, PkInt(0), PkText("cpu"), PkInt(4)}),
        id({PkText("storage"), cls, PkText("0"), "N", PkInt(4)})}) {
    ExpectRefused(text, "torch.persistent-id", {"offset"});
  }
}

TEST(PickleTest, BoundsDepth) {
  const auto tuples = [](size_t n) { return ")" + std::string(n, '\x85') + "."; };
  EXPECT_NO_THROW(Parse(tuples(kPickleMaxDepth)));
  ExpectRefused(tuples(kPickleMaxDepth + 1), "pickle.depth", {"depth"});
  ExpectRefused(tuples(5'000'000), "pickle.depth");
  const auto lists = [](size_t n) { return std::string(n, ']') + std::string(n - 1, 'a') + "."; };
  EXPECT_NO_THROW(Parse(lists(kPickleMaxDepth)));
  ExpectRefused(lists(kPickleMaxDepth + 1), "pickle.depth");
  ExpectRefused(lists(500'000), "pickle.depth");
  const auto dicts = [](size_t n) {
    std::string text;
    for (size_t i = 0; i < n; ++i) text += "}K\1";
    text += "N";
    for (size_t i = 0; i < n; ++i) text += "s";
    return text + ".";
  };
  EXPECT_NO_THROW(Parse(dicts(kPickleMaxDepth)));
  ExpectRefused(dicts(kPickleMaxDepth + 1), "pickle.depth");
  ExpectRefused(std::string(1'000'000, '('), "pickle.depth");
  std::string calls = ")";
  for (int i = 0; i < 100; ++i) calls = "cm\ncall\n" + calls + "R\x85";
  ExpectRefused(calls + ".", "pickle.depth");
}

TEST(PickleTest, RefusesValuesThatContainThemselves) {
  ExpectRefused("]q\0h\0a."s, "pickle.cycle");
  ExpectRefused("}q\0X\1\0\0\0ah\0s."s, "pickle.cycle", {"'a'"});
  ExpectRefused(
      "}q\0X\1\0\0\0a]q\1X\1\0\0\0b\x85q\2"
      "0h\2ah\0as."s,
      "pickle.cycle");
  ExpectRefused("]q\0cm\ncall\nh\0\x85Ra."s, "pickle.cycle");
  ExpectRefused("\x8fq\0(h\0\x90."s, "pickle.cycle");
  // Below what is reached only through another container.
  ExpectRefused("]]q\0h\0aa."s, "pickle.cycle");
}

TEST(PickleTest, SharedValuesAreNoCycleAndNoBomb) {
  EXPECT_EQ(Parsed("]q\0(h\0h\0h\0t\x86."s), "([], ([], [], []))");
  // Each level holds the one below ten times: 10^40 leaves, 40 containers.
  std::string text = "]q\0"s;
  for (char level = 1; level < 40; ++level) {
    text += "](";
    for (int i = 0; i < 10; ++i) text += "h"s + static_cast<char>(level - 1);
    text += "eq"s + level;
  }
  const std::string all = "(" + text + "t.";
  EXPECT_EQ(Parse(all).root().kind(), Kind::kTuple);
}

TEST(PickleTest, BoundsTheNumberOfValues) {
  ExpectRefused(std::string(4'000'000, 'N'), "pickle.budget");
  ExpectRefused("]" + std::string(4'000'000, ']'), "pickle.budget");
  ExpectRefused("N" + std::string(4'000'000, '\x94'), "pickle.budget");
  // A list of pairs that is made into a dict again and again.
  std::string pairs = "](";
  for (int i = 0; i < 1000; ++i) pairs += "NN\x86";
  std::string text = "(" + pairs +
                     "eq\0ccollections\nOrderedDict\nq\1"
                     "00"s;
  for (int i = 0; i < 10000; ++i) text += "h\1h\0\x85R"s;
  ExpectRefused(text, "pickle.budget");
}

}  // namespace
}  // namespace quern
