#include "pgolf/artifact/code_format.h"

#include <gtest/gtest.h>

#include <functional>

#include "support.h"

namespace pgolf::testing {
namespace {

RawTensor tensor(DType dtype, std::vector<int64_t> shape, size_t bytes) {
  return {dtype, std::move(shape), std::make_shared<const Bytes>(bytes, std::byte{1})};
}

TEST(CodeFormat, RoundTrip) {
  const CodedTensors tensors{{"kept", tensor(DType::float16, {3}, 6), {}, DType::bfloat16},
                             {"rows", tensor(DType::int8, {2, 4}, 8), tensor(DType::float16, {2}, 4), DType::float32},
                             {"whole", tensor(DType::int8, {5}, 5), tensor(DType::float32, {}, 4), DType::float64},
                             {"count", tensor(DType::int64, {1}, 8), {}, DType::int64}};
  const CodedTensors read = read_codes(write_codes(CodeFormat::int8_clean_per_row_v1, tensors), "a.ptz");
  ASSERT_EQ(read.size(), tensors.size());
  const size_t order[] = {1, 2, 0, 3};  // codes come first
  for (size_t i = 0; i < read.size(); ++i) {
    const CodedTensor& expected = tensors[order[i]];
    EXPECT_EQ(read[i].name, expected.name);
    EXPECT_EQ(read[i].dtype, expected.dtype);
    EXPECT_EQ(read[i].data.shape, expected.data.shape);
    EXPECT_EQ(read[i].data.bytes, expected.data.bytes) << "not copied";
    EXPECT_EQ(read[i].scale.has_value(), expected.scale.has_value());
    if (read[i].scale) {
      EXPECT_EQ(read[i].scale->bytes, expected.scale->bytes);
    }
  }
}

CodedTensors gptq_tensors() {
  return {{"kept", tensor(DType::float16, {3}, 6), {}, DType::float32},
          {"six", tensor(DType::int8, {2, 4}, 8), tensor(DType::float16, {2}, 4), DType::float32, Quantizer::gptq, 6},
          {"count", tensor(DType::int64, {1}, 8), {}, DType::int64},
          {"eight", tensor(DType::int8, {2, 4}, 8), tensor(DType::float16, {2}, 4), DType::float32, Quantizer::int8, 8}};
}

std::string method_text(const Dict& object, const char* name) {
  const Value& method = *object.find("m")->as_dict("m").find(name);
  if (const Dict* dict = method.get_if<Dict>()) return "type " + dict->find("type")->as_text("type");
  return method.as_text("method");
}

TEST(CodeFormat, DictionariesOfWeightsAndMethods) {
  for (const bool types : {false, true}) {
    const CodeFormat format = types ? CodeFormat::gptq_types : CodeFormat::gptq;
    const CodedTensors tensors = gptq_tensors();
    Dict object = write_codes(format, tensors);
    EXPECT_EQ(code_format_in(object), format);
    std::vector<std::string> keys, names;
    for (const auto& entry : object.find("w")->as_dict("w").entries()) keys.push_back(*entry.key);
    for (const auto& entry : object.find("m")->as_dict("m").entries()) names.push_back(*entry.key);
    EXPECT_EQ(keys, (std::vector<std::string>{"kept", "six.q", "six.scale", "count", "eight.q", "eight.scale"}));
    EXPECT_EQ(names, (std::vector<std::string>{"kept", "six", "count", "eight"}));
    EXPECT_EQ(method_text(object, "kept"), types ? "passthrough" : "passthrough (float16)");
    EXPECT_EQ(method_text(object, "six"), types ? "type int6" : "gptq (int6)");
    EXPECT_EQ(method_text(object, "eight"), types ? "type int8" : "per_row (int8)");
    set_artifact_config(&object, {{"ROPE_DIMS", "16"}});
    EXPECT_EQ(code_format_in(object), format);
    EXPECT_EQ(artifact_config(object, "f").at("ROPE_DIMS"), "16");
    const CodedTensors read = read_codes(object, "f");
    ASSERT_EQ(read.size(), tensors.size());
    for (size_t i = 0; i < read.size(); ++i) {
      EXPECT_EQ(read[i].name, tensors[i].name);
      EXPECT_EQ(read[i].data.bytes, tensors[i].data.bytes);
      EXPECT_EQ(read[i].scale.has_value(), tensors[i].scale.has_value());
      EXPECT_EQ(read[i].dtype, tensors[i].dtype);
      EXPECT_EQ(read[i].bits, tensors[i].bits);
      EXPECT_EQ(read[i].quantizer, tensors[i].quantizer);
    }
  }
}

TEST(CodeFormat, OtherContentHasNone) {
  Dict tensors, half;
  tensors.set(text("w"), tensor(DType::float16, {1}, 2));
  tensors.set(text("m"), tensor(DType::float16, {1}, 2));
  half.set(text("w"), Dict());
  for (const Value& value : {Value(tensors), Value(half), Value(Dict()), Value(text("w")), Value()})
    EXPECT_EQ(code_format_in(value), CodeFormat::none);
  EXPECT_TRUE(read_codes(write_codes(CodeFormat::gptq, {}), "f").empty());
}

TEST(CodeFormat, BadDictionariesAreRejected) {
  const auto refused = [](const char* part, const char* key, const std::function<void(Dict&)>& change) {
    SCOPED_TRACE(part);
    Dict object = write_codes(CodeFormat::gptq, gptq_tensors());
    Dict dict = object.find(key)->as_dict(key);
    change(dict);
    object.set(text(key), std::move(dict));
    artifact_test::expect_bad_input([&] { read_codes(object, "f.ptz"); }, part);
    artifact_test::expect_bad_input([&] { read_codes(object, "f.ptz"); }, "f.ptz: ");
  };
  const auto set = [](const char* name, Value value) { return [=](Dict& dict) { dict.set(text(name), value); }; };
  refused("six: the number of scales differs", "w", set("six.scale", tensor(DType::float16, {3}, 6)));
  refused("six: the number of scales differs", "w", set("six.scale", tensor(DType::float16, {2, 1}, 4)));
  refused("six: the scales are int8", "w", set("six.scale", tensor(DType::int8, {2}, 2)));
  refused("six: the codes are float16, not int8", "w", set("six.q", tensor(DType::float16, {2, 2}, 8)));
  refused("six.q has type str", "w", set("six.q", text("codes")));
  refused("is in \"w\", but nothing in \"m\"", "w", set("more", tensor(DType::float16, {1}, 2)));
  refused("more is missing in \"w\"", "m", set("more", text("passthrough (float16)")));
  refused("more.q is missing in \"w\"", "m", set("more", text("gptq (int6)")));
  refused("six.q belongs to two tensors", "m", set("six.q", text("passthrough (float16)")));
  for (const char* method : {"", "gptq", "gptq (int9)", "gptq (int1)", "gptq (int6", "gptq int6", "int6", "passthrough (int8)"})
    refused("six: unknown method", "m", set("six", text(method)));
  refused("six: unknown method \"int\"", "m", set("six", 6));
  Dict type, more;
  type.set(text("type"), text("int99"));
  refused("six: unknown method \"int99\"", "m", set("six", type));
  more.set(text("type"), text("int6"));
  more.set(text("rank"), 4);
  refused("six: unknown method", "m", set("six", more));
  for (const int8_t code : {32, -33, 127, -128}) {
    refused("six: codes exceed int6", "w", set("six.q", artifact_test::tensor<int8_t>(DType::int8, {2, 1}, {0, code})));
  }
  Dict object = write_codes(CodeFormat::gptq, gptq_tensors());
  Dict weights = object.find("w")->as_dict("w");
  weights.set(text("six.q"), artifact_test::tensor<int8_t>(DType::int8, {2, 1}, {31, -32}));
  object.set(text("w"), weights);
  EXPECT_EQ(read_codes(object, "f").size(), 4u);
}

TEST(CodeFormat, FormatTexts) {
  EXPECT_EQ(format_text({}), "torch");
  EXPECT_EQ(format_text({.codec = Codec::zlib}), "torch+zlib");
  EXPECT_EQ(format_text({.codes = CodeFormat::int8_clean_per_row_v1}), "int8");
  EXPECT_EQ(format_text(ArtifactFormat().file()), "int8+zlib");
  EXPECT_EQ(format_text({.codes = CodeFormat::gptq, .codec = Codec::brotli}), "gptq+brotli");
  EXPECT_EQ(format_text({.codes = CodeFormat::gptq_types, .codec = Codec::lzma}), "gptq+lzma");
  EXPECT_EQ(format_text({.container = Container::safetensors}), "safetensors");
  EXPECT_EQ(format_text({.container = Container::checkpoint}), "training checkpoint");
  EXPECT_EQ(code_format_of(code_format_name(CodeFormat::int8_clean_per_row_v1)), CodeFormat::int8_clean_per_row_v1);
  for (const char* name : {"", "int6_gptq", "int8"}) EXPECT_EQ(code_format_of(name), CodeFormat::unknown) << name;
}

}  // namespace
}  // namespace pgolf::testing
