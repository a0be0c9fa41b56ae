#include "formats/json_limits.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "formats/core/error.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

// Returns the error that `action` throws; fails the test if there is none.
Error MustFail(const std::function<void()>& action) {
  const auto error = testing::ErrorOf(action);
  EXPECT_TRUE(error.has_value());
  return error.value_or(Error(ErrorCode::kBug, "none", "none"));
}

Error ParseError(std::string_view text) {
  return MustFail([&] { ParseJson(text, "config.json"); });
}

TEST(JsonTest, KeepsTheKindsOfNumbers) {
  const JsonValue json = ParseJson(
      R"([0, 18446744073709551615, -1, -9223372036854775808, 1.5, 1e3, 18446744073709551616, -0,
          1152921504606846975, 1152921504606846976, 8.0])",
      "x");
  std::vector<JsonValue> values;
  for (const auto& [key, value] : json.items()) {
    EXPECT_TRUE(key.empty());
    values.push_back(value);
  }
  ASSERT_EQ(values.size(), 11u);
  EXPECT_EQ(values[0].Uint(), 0u);
  EXPECT_EQ(values[1].Uint(), UINT64_MAX);
  EXPECT_EQ(values[2].Int(), -1);
  EXPECT_EQ(values[3].Int(), INT64_MIN);
  EXPECT_EQ(values[4].Number(), 1.5);
  EXPECT_EQ(values[5].kind(), JsonValue::Kind::kDouble);
  EXPECT_EQ(values[6].kind(), JsonValue::Kind::kDouble);
  EXPECT_EQ(values[7].Uint(), 0u);
  // The last integer that fits one word of the tape, and the first of two.
  EXPECT_EQ(values[8].Uint(), (uint64_t{1} << 60) - 1);
  EXPECT_EQ(values[9].Uint(), uint64_t{1} << 60);
  EXPECT_EQ(values[10].kind(), JsonValue::Kind::kDouble);
  EXPECT_EQ(values[10].ToString(), "8.0");
  EXPECT_EQ(values[5].ToString(), "1000.0");
}

TEST(JsonTest, WalksNestedValuesInFileOrder) {
  const JsonValue json = ParseJson(
      R"({"z": {"deep": [1, [2, 3], {}]}, "a": null, "m": "\u00e9\ud83d\ude00\n", "b": [true, false], "e": []})",
      "x");
  std::string keys;
  for (const auto& [key, value] : json.items()) keys += key;
  EXPECT_EQ(keys, "zambe");
  EXPECT_EQ(json.size(), 5u);
  EXPECT_EQ(json.Find("m")->String(), "é😀\n");
  EXPECT_EQ(json.Find("a")->kind(), JsonValue::Kind::kNull);
  EXPECT_FALSE(json.Find("deep").has_value());
  const JsonValue deep = *json.Find("z")->Find("deep");
  EXPECT_EQ(deep.size(), 3u);
  std::vector<std::string> texts;
  for (const auto& item : deep.items()) texts.push_back(item.value.ToString());
  EXPECT_EQ(texts,
            (std::vector<std::string>{"1", "an array of 2 elements", "an object of 0 members"}));
  size_t n = 0;
  for (const auto& item : json.Find("b")->items()) n += item.value.Bool();
  EXPECT_EQ(n, 1u);
  EXPECT_EQ(json.Find("e")->size(), 0u);
}

TEST(JsonTest, AValueOutlivesTheDocument) {
  const JsonValue inner =
      *ParseJson(R"({"a": ["text of some length that is on the heap"]})", "x").Find("a");
  EXPECT_EQ((*inner.items().begin()).value.String(), "text of some length that is on the heap");
}

TEST(JsonTest, RefusesDepthBeyondTheLimit) {
  const std::string deepest = std::string(kJsonMaxDepth, '[') + std::string(kJsonMaxDepth, ']');
  EXPECT_EQ(ParseJson(deepest, "x").size(), 1u);
  const Error error = ParseError("[" + deepest + "]");
  EXPECT_EQ(error.id(), "json.depth");
  EXPECT_EQ(error.code(), ErrorCode::kData);
  EXPECT_NE(std::string(error.what()).find("byte offset 64"), std::string::npos) << error.what();
  // Brackets inside strings do not count.
  EXPECT_EQ(ParseJson("\"" + std::string(1000, '[') + "\\\"[\"", "x").String().size(), 1002u);
}

TEST(JsonTest, RefusesDuplicateKeysAtAnyDepth) {
  for (const char* text : {R"({"a":1,"b":2,"a":3})", R"([{"x":{"a":{},"\u0061":[]}}])"}) {
    const Error error = ParseError(text);
    EXPECT_EQ(error.id(), "json.duplicate-key") << text;
    EXPECT_NE(std::string(error.what()).find("'a'"), std::string::npos) << error.what();
  }
  // The same key in different objects is fine.
  EXPECT_EQ(ParseJson(R"({"a":{"a":{"a":0}},"b":{"a":1}})", "x").size(), 2u);
}

TEST(JsonTest, RefusesTextThatIsNoUtf8) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"a":"\ud800"})", "byte offset 6"},
      {R"({"a":"\udc00"})", "byte offset 6"},
      {R"({"a":"\ud800\ud800"})", "byte offset 6"},
      {R"(["\ud83dx"])", "byte offset 2"},
      {"[\"\xC3(\"]", "byte offset 2"},
      {"\xFF", "byte offset 0"}};
  for (const auto& [text, offset] : cases) {
    const Error error = ParseError(text);
    EXPECT_EQ(error.id(), "text.utf8") << text;
    EXPECT_NE(std::string(error.what()).find(offset), std::string::npos) << error.what();
  }
}

TEST(JsonTest, RefusesBadSyntaxWithTheOffset) {
  for (const std::string text :
       {"",      " ",       "{",           "[1,]",   "[1 2]", "{\"a\" 1}",  "{\"a\":1,}",
        "01",    "1.",      "+1",          "NaN",    "nul",   "[1]x",       "1e999",
        "{1:2}", "\"\\x\"", "\"\\u12g4\"", "\"open", "'a'",   "[\"a\tb\"]", "// c\n1"}) {
    const Error error = ParseError(text);
    EXPECT_EQ(error.id(), "json.syntax") << text;
    EXPECT_NE(std::string(error.what()).find("offset"), std::string::npos) << error.what();
  }
  EXPECT_EQ(ParseError(std::string("{\"a\":\"x\0y\"}", 11)).id(), "json.syntax");
  // A string that ends in the middle of an escape.
  for (const char* text : {"\"\\", "\"[\\", "{\"a\":\"\\", "\"\\u", "\"\\u00", "\"x\\\\\\"}) {
    EXPECT_EQ(ParseError(text).id(), "json.syntax") << text;
  }
  // The parser would take it for the end and never see what stands behind it.
  EXPECT_EQ(ParseError(std::string("{\"a\":1}\0", 8)).id(), "json.syntax");
  EXPECT_EQ(ParseError(std::string("{\"a\":1}\0{\"b\":2}", 15)).id(), "json.syntax");
}

TEST(JsonTest, TheEndOfTheTextIsTheEndOfTheDocument) {
  // A parser that takes NUL for the end sees nothing of what follows.
  using std::string_literals::operator""s;
  for (const std::string& text : {"{}\0"s, "{}\0{}"s, "\0{}"s, "[1,\0 2]"s, "{\"a\":1}\0garbage"s,
                                  "{\"a\"\0:1}"s, "1\0"s, "\0"s}) {
    const Error error = ParseError(text);
    EXPECT_EQ(error.id(), "json.syntax") << Escaped(text);
    const std::string place = "byte offset " + std::to_string(text.find('\0')) + ")";
    EXPECT_NE(std::string(error.what()).find(place), std::string::npos) << error.what();
  }
}

TEST(JsonTest, RefusesAByteOrderMarkByName) {
  const Error error = ParseError("\xEF\xBB\xBF{}");
  EXPECT_EQ(error.id(), "json.syntax");
  EXPECT_NE(std::string(error.what()).find("byte order mark"), std::string::npos) << error.what();
  EXPECT_EQ(ParseJson("[\"\xEF\xBB\xBF\"]", "x").size(), 1u);
}

TEST(JsonTest, OffsetsAreThoseOfTheFile) {
  for (const std::string text : {"[1}", "[\"\xFF\"]", "\"\\ud800\""}) {
    const Error error = MustFail([&] { ParseJson(text, "x", 1000); });
    EXPECT_NE(std::string(error.what()).find("byte offset 100"), std::string::npos)
        << error.what();
  }
}

TEST(JsonTest, RefusesWhatIsBeyondItsLimits) {
  std::string many = "[";
  for (uint64_t i = 0; i < kJsonFreeValues * 3 / 2; ++i) many += "0,";
  many += "0]";
  EXPECT_EQ(ParseError(many).code(), ErrorCode::kUnsupported);
  EXPECT_EQ(ParseError(many).id(), "json.limit");
  EXPECT_EQ(ParseError("\"" + std::string(kJsonMaxStringBytes, 'a') + "\"").id(), "json.limit");
  EXPECT_EQ(ParseJson("\"" + std::string(kJsonMaxStringBytes - 1, 'a') + "\"", "x").String().size(),
            kJsonMaxStringBytes - 1);
  EXPECT_EQ(ParseError("[" + std::string(size_t{3} << 20, ' ') + "]").id(), "json.limit");
}

TEST(JsonTest, ReadsTheLargestRealDocuments) {
  // A safetensors header of 300,000 tensors, a tokenizer of 280,000 merges as pairs.
  std::string header = "{";
  for (int i = 0; i < 300000; ++i) {
    header += fmt::format(R"("{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", i);
  }
  EXPECT_EQ(ParseJson(header + "\"z\":0}", "x").size(), 300001u);
  std::string merges = "[";
  for (int i = 0; i < 280000; ++i) merges += fmt::format("[\n  \"Ġt{}\",\n  \"he\"\n],\n", i);
  EXPECT_EQ(ParseJson(merges + "0]", "x").size(), 280001u);
}

TEST(JsonTest, ManyKeysAreCheckedFast) {
  std::string text = "{";
  for (int i = 0; i < 300000; ++i) text += "\"k" + std::to_string(i) + "\":{},";
  EXPECT_EQ(ParseJson(text + "\"last\":0}", "x").size(), 300001u);
  EXPECT_EQ(ParseError(text + "\"k299999\":0}").id(), "json.duplicate-key");
}

TEST(ConfigTest, NamesTheKeyAndTheValueFound) {
  const JsonValue json = ParseJson(
      R"({"heads": -8, "eps": 1e-5, "half": 1.5, "big": 18446744073709551615, "n": null, "s": "x", "t": true})",
      "config.json");
  const auto line = [&](auto call) {
    const Error error = MustFail([&] { call(); });
    EXPECT_EQ(error.id(), "config.value");
    EXPECT_EQ(error.code(), ErrorCode::kData);
    return std::string(error.what());
  };
  EXPECT_EQ(line([&] { RequireUint(json, "heads", 100, "config.json"); }),
            "config.json: configuration value cannot be used, key 'heads', found -8, expected an "
            "integer from 0 "
            "to 100 [config.value]");
  EXPECT_NE(line([&] { OptionalUint(json, "half", 100, "f"); }).find("1.5"), std::string::npos);
  EXPECT_NE(line([&] { OptionalUint(json, "big", 100, "f"); }).find("18446744073709551615"),
            std::string::npos);
  EXPECT_NE(line([&] { RequireUint(json, "absent", 100, "f"); }).find("'absent'"),
            std::string::npos);
  EXPECT_NE(line([&] { RequireUint(json, "n", 100, "f"); }).find("'n'"), std::string::npos);
  EXPECT_NE(line([&] { OptionalUint(json, "t", 100, "f"); }).find("true"), std::string::npos);
  EXPECT_NE(line([&] { OptionalDouble(json, "s", "f"); }).find("\"x\""), std::string::npos);
  EXPECT_NE(line([&] { RequireDouble(json, "absent", "f"); }).find("'absent'"), std::string::npos);
  EXPECT_NE(line([&] { OptionalBool(json, "eps", "f"); }).find("1e-05"), std::string::npos);
  EXPECT_NE(line([&] { OptionalString(json, "eps", "f"); }).find("'eps'"), std::string::npos);
  EXPECT_EQ(RequireDouble(json, "eps", "f"), 1e-5);
  EXPECT_EQ(OptionalDouble(json, "heads", "f"), -8.0);
  EXPECT_EQ(OptionalUint(json, "n", 100, "f"), std::nullopt);
  EXPECT_EQ(OptionalUint(json, "absent", 100, "f"), std::nullopt);
  EXPECT_EQ(OptionalBool(json, "t", "f"), true);
  EXPECT_EQ(OptionalString(json, "s", "f"), "x");
}

TEST(ConfigTest, ShardNamesArePlain) {
  EXPECT_NO_THROW(CheckShardName("pytorch_model-00001-of-00002.bin", "index.json"));
  for (const std::string& name :
       {std::string("/etc/passwd"), std::string("../a"), std::string("a/b"), std::string("a\\b"),
        std::string(".."), std::string("."), std::string(), std::string("a\0b", 3),
        std::string("a\nb"), std::string("\x1b[2J"), std::string("a\x7f")}) {
    const Error error = MustFail([&] { CheckShardName(name, "index.json"); });
    EXPECT_EQ(error.id(), "index.path") << name;
    EXPECT_NE(std::string(error.what()).find(Escaped(name)), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace quern
