#include "pgolf/artifact/code_format.h"

#include <gtest/gtest.h>

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

TEST(CodeFormat, FormatTexts) {
  EXPECT_EQ(format_text({}), "torch");
  EXPECT_EQ(format_text({.codec = Codec::zlib}), "torch+zlib");
  EXPECT_EQ(format_text({.codes = CodeFormat::int8_clean_per_row_v1}), "int8");
  EXPECT_EQ(format_text(ArtifactFormat().file()), "int8+zlib");
  EXPECT_EQ(format_text({.container = Container::safetensors}), "safetensors");
  EXPECT_EQ(format_text({.container = Container::checkpoint}), "training checkpoint");
  EXPECT_EQ(code_format_of(code_format_name(CodeFormat::int8_clean_per_row_v1)), CodeFormat::int8_clean_per_row_v1);
  for (const char* name : {"", "int6_gptq", "int8"}) EXPECT_EQ(code_format_of(name), CodeFormat::unknown) << name;
}

}  // namespace
}  // namespace pgolf::testing
