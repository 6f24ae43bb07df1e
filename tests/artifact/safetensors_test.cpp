#include "pgolf/artifact/safetensors.h"

#include <gtest/gtest.h>

#include "support.h"

namespace pgolf {
namespace {

using artifact_test::damage_everywhere;
using artifact_test::expect_bad_input;
using artifact_test::shared_file;
using artifact_test::TemporaryFolder;
using artifact_test::tensor;
using artifact_test::to_bytes;
using artifact_test::values;

Bytes with_header(const std::string& header, size_t data_bytes) {
  const uint64_t size = header.size();
  Bytes out(sizeof size);
  std::memcpy(out.data(), &size, sizeof size);
  const Bytes text = to_bytes(header);
  out.insert(out.end(), text.begin(), text.end());
  out.resize(out.size() + data_bytes);
  return out;
}

Safetensors sample() {
  Safetensors content;
  content.tensors = {{"codes", tensor<int8_t>(DType::int8, {3}, {-1, 0, 1})},
                     {"weight", tensor<float>(DType::float32, {2, 2}, {1, 2, 3, 4})},
                     {"empty", tensor<float>(DType::float32, {0, 5}, {})},
                     {"step", tensor<int64_t>(DType::int64, {}, {123456789012})},
                     {"flag \"quoted\" \xc3\xa9", tensor<uint8_t>(DType::boolean, {2}, {1, 0})}};
  content.metadata = {{"step", "7"}, {"note", "a \"b\"\n"}};
  return content;
}

TEST(Safetensors, RoundTripKeepsOrderValuesAndMetadata) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  save_safetensors(path, sample());
  const Safetensors read = load_safetensors(path);
  EXPECT_EQ(read.metadata, sample().metadata);
  ASSERT_EQ(read.tensors.size(), 5u);
  const NamedTensors written = sample().tensors;
  for (size_t i = 0; i < written.size(); ++i) {
    EXPECT_EQ(read.tensors[i].first, written[i].first);
    EXPECT_EQ(read.tensors[i].second.dtype, written[i].second.dtype);
    EXPECT_EQ(read.tensors[i].second.shape, written[i].second.shape);
    EXPECT_EQ(*read.tensors[i].second.bytes, *written[i].second.bytes);
  }
}

TEST(Safetensors, BytesAreDeterministicAndAligned) {
  const TemporaryFolder folder;
  const auto a = folder.path() / "a", b = folder.path() / "b";
  save_safetensors(a, sample());
  save_safetensors(b, load_safetensors(a));
  const Bytes bytes = read_bytes(a);
  EXPECT_EQ(bytes, read_bytes(b));
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_EQ(text.substr(8, 17), "{\"__metadata__\":{");
  EXPECT_NE(text.find("\"weight\":{\"data_offsets\":[8,24],\"dtype\":\"F32\",\"shape\":[2,2]}"), std::string::npos) << text;
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0u);
}

TEST(Safetensors, EmptyFileOfTensors) {
  const TemporaryFolder folder;
  save_safetensors(folder.path() / "a", {});
  EXPECT_TRUE(load_safetensors(folder.path() / "a").tensors.empty());
}

TEST(Safetensors, FaultyHeadersAreNamed) {
  const auto parse = [](const std::string& header, size_t data_bytes, std::string_view part) {
    expect_bad_input([&] { parse_safetensors(with_header(header, data_bytes), "f.safetensors"); }, part);
  };
  const auto one = [](const std::string& fields) { return "{\"w\":{" + fields + "}}"; };
  parse("{", 0, "f.safetensors: the header is not JSON");
  parse("[]", 0, "not a JSON object");
  parse("{\"w\":[[[[[[]]]]]]}", 0, "nested too deeply");
  parse("{\"w\":1}", 0, "does not have exactly dtype, shape and data_offsets");
  parse(one("\"dtype\":\"F32\",\"shape\":[1]"), 4, "does not have exactly");
  parse(one("\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]"), 4, "unsupported dtype");
  parse(one("\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]"), 4, "unsupported dtype");
  parse(one("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]"), 4, "non-negative integers");
  parse(one("\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]"), 4, "non-negative integers");
  parse(one("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]"), 4, "two non-negative integers");
  parse(one("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]"), 4, "do not match");
  parse(one("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), 4, "do not match");
  // 2^62 * 4 elements of 4 bytes wrap around to 0.
  parse(one("\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]"), 0, "do not match");
  parse(one("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"), 3, "is truncated: 1 bytes are missing");
  parse(one("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"), 5, "1 bytes follow the last tensor");
  parse(one("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]"), 8, "overlap or leave gaps");
  const std::string w = "{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}";
  parse("{\"w\":" + w + ",\"v\":" + w + "}", 2, "overlap");
  parse("{\"w\":" + w + ",\"w\":" + w + "}", 2, "duplicate name \"w\"");
  parse("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "duplicate name \"a\"");
  parse(one("\"dtype\":\"U8\",\"shape\":[1],\"shape\":[2],\"data_offsets\":[0,2]"), 2, "duplicate name \"shape\"");
  parse("{\"__metadata__\":{\"a\":1}}", 0, "entry \"a\" is not a string");
  parse("{\"__metadata__\":[]}", 0, "__metadata__ is not");

  Bytes huge(16, std::byte{0xff});
  expect_bad_input([&] { parse_safetensors(huge, "f"); }, "declares a header of 18446744073709551615 bytes");
  expect_bad_input([&] { parse_safetensors(Bytes(7), "f"); }, "too short");
}

TEST(Safetensors, ManyTensorsOnTheSameBytesCopyNothing) {
  std::string header = "{";
  for (int i = 0; i < 20'000; ++i) {
    header +=
        (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":{\"dtype\":\"U8\",\"shape\":[1000000],\"data_offsets\":[0,1000000]}";
  }
  expect_bad_input([&] { parse_safetensors(with_header(header + "}", 1'000'000), "f"); }, "overlap");
}

TEST(Safetensors, DamageNeverCrashes) {
  const TemporaryFolder folder;
  save_safetensors(folder.path() / "a", sample());
  damage_everywhere(read_bytes(folder.path() / "a"), [](BytesView bytes) { parse_safetensors(bytes, "a"); });
}

TEST(Safetensors, ReadsPythonsFiles) {
  const auto path = shared_file("reference/train_tiny/fp32.final_state.safetensors");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const Safetensors read = load_safetensors(path);
  EXPECT_EQ(read.tensors.size(), 42u);
  EXPECT_EQ(read.metadata.at("threads"), "1");
  for (const auto& [name, state] : read.tensors) EXPECT_EQ(state.bytes->size(), static_cast<size_t>(state.numel()) * 4) << name;

  const TemporaryFolder folder;
  save_safetensors(folder.path() / "copy", read);
  EXPECT_TRUE(read_bytes(folder.path() / "copy").size() - read_bytes(path).size() < 1024);
}

}  // namespace
}  // namespace pgolf
