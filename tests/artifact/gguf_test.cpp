#include "pgolf/artifact/gguf.h"

#include "support.h"
#include "support/files.h"

namespace pgolf::testing {
namespace {

std::string little(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> 8 * i & 0xff);
  return out;
}
std::string counted(const std::string& text) {
  return little(text.size(), 8) + text;
}

RawTensor tensor_of(DType dtype, std::vector<int64_t> shape, const std::string& content) {
  const BytesView bytes = as_bytes(content);
  return {dtype, std::move(shape), std::make_shared<const Bytes>(bytes.begin(), bytes.end())};
}

/// Byte by byte as the format's description says.
TEST(Gguf, Layout) {
  const TempFolder folder;
  const std::string six_halves = "aabbccddeeff", two_floats = "01234567";
  save_gguf(folder / "x.gguf", {{{"a.number", uint32_t{7}},
                                 {"a.text", std::string("word")},
                                 {"a.flag", true},
                                 {"a.real", 0.5f},
                                 {"a.texts", std::vector<std::string>{"p", "qr"}},
                                 {"a.reals", std::vector<float>{1.0f}},
                                 {"a.numbers", std::vector<int32_t>{-1}},
                                 {"a.bytes", std::vector<uint8_t>{9, 8}}},
                                {{"m", tensor_of(DType::bfloat16, {2, 3}, six_halves)},
                                 {"h", tensor_of(DType::float16, {6}, six_halves)},
                                 {"v", tensor_of(DType::float32, {2}, two_floats)}}});
  std::string expected = "GGUF" + little(3, 4) + little(3, 8) + little(8, 8);
  expected += counted("a.number") + little(4, 4) + little(7, 4);
  expected += counted("a.text") + little(8, 4) + counted("word");
  expected += counted("a.flag") + little(7, 4) + little(1, 1);
  expected += counted("a.real") + little(6, 4) + little(0x3f000000, 4);
  expected += counted("a.texts") + little(9, 4) + little(8, 4) + little(2, 8) + counted("p") + counted("qr");
  expected += counted("a.reals") + little(9, 4) + little(6, 4) + little(1, 8) + little(0x3f800000, 4);
  expected += counted("a.numbers") + little(9, 4) + little(5, 4) + little(1, 8) + little(0xffffffff, 4);
  expected += counted("a.bytes") + little(9, 4) + little(0, 4) + little(2, 8) + "\x09\x08";
  expected += counted("m") + little(2, 4) + little(3, 8) + little(2, 8) + little(30, 4) + little(0, 8);
  expected += counted("h") + little(1, 4) + little(6, 8) + little(1, 4) + little(32, 8);
  expected += counted("v") + little(1, 4) + little(2, 8) + little(0, 4) + little(64, 8);
  expected.resize((expected.size() + 31) / 32 * 32);
  for (const std::string& content : {six_halves, six_halves, two_floats}) {
    expected += content;
    expected.resize((expected.size() + 31) / 32 * 32);
  }
  EXPECT_EQ(read_text(folder / "x.gguf"), expected);
}

}  // namespace
}  // namespace pgolf::testing
