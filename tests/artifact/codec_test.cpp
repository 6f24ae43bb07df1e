#include "pgolf/artifact/codec.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "pgolf/artifact/torch_file.h"
#include "support.h"

namespace pgolf {
namespace {

using namespace std::string_view_literals;
using artifact_test::damage_everywhere;
using artifact_test::expect_bad_input;
using artifact_test::tensor;
using artifact_test::to_bytes;

constexpr size_t plenty = size_t{1} << 24;

/// A torch.save archive, the only content that Brotli streams are recognized by.
Bytes archive() {
  Dict dict;
  dict.set(text("w"), tensor<uint16_t>(DType::float16, {3}, {0x3c00, 0x3c01, 0x3c02}));
  return save_torch(dict);
}

Bytes repetitive() {
  std::string text;
  for (int i = 0; i < 300; ++i) text += "pgolf " + std::to_string(i % 7);
  return to_bytes(text);
}

TEST(Codec, RoundTripsAndDetection) {
  EXPECT_EQ(codec_of(archive()), Codec::none);
  EXPECT_EQ(compress(Codec::none, archive()), archive());
  for (const auto& entry : codecs) {
    SCOPED_TRACE(entry.name);
    const Bytes packed = compress(entry.codec, archive());
    EXPECT_NE(packed, archive());
    EXPECT_EQ(codec_of(packed), entry.codec);
    EXPECT_EQ(decompress(entry.codec, packed, plenty, "f"), archive());
    EXPECT_LT(compress(entry.codec, repetitive()).size(), 200u);
    for (const Bytes& content : {Bytes(), to_bytes("a"), to_bytes("ab"), repetitive(), Bytes(100'000)}) {
      EXPECT_EQ(decompress(entry.codec, compress(entry.codec, content), plenty, "f"), content) << content.size();
    }
  }
}

TEST(Codec, BrotliIsRecognizedByWhatItHolds) {
  EXPECT_TRUE(unpacks_as_brotli(brotli_compress(archive())));
  EXPECT_TRUE(unpacks_as_brotli(brotli_compress(byte_shuffle(archive()))));
  for (const std::string_view content : {""sv, "PK"sv, "PK\3"sv, "PK\3\3 and more"sv, "BSHF"sv, "BSHG\2 more"sv, "a text"sv})
    EXPECT_FALSE(unpacks_as_brotli(brotli_compress(to_bytes(content)))) << content;
  const Bytes packed = brotli_compress(archive());
  EXPECT_FALSE(unpacks_as_brotli(BytesView(packed).first(0)));
  EXPECT_FALSE(unpacks_as_brotli(BytesView(packed).first(1)));
  EXPECT_TRUE(unpacks_as_brotli(BytesView(packed).first(packed.size() - 1)));
  for (const std::string_view other : {"a text file\n"sv, "\x01\x02\x03\x04"sv, "\0\0\0\0\0\0"sv, "\x1f\x8b\x08"sv})
    EXPECT_FALSE(unpacks_as_brotli(to_bytes(other)));
}

TEST(Codec, LimitsStopBombs) {
  for (const auto& entry : codecs) {
    SCOPED_TRACE(entry.name);
    const Bytes bomb = compress(entry.codec, Bytes(5'000'000));
    ASSERT_LT(bomb.size(), 20'000u);
    expect_bad_input([&] { entry.decompress(bomb, 1'000'000, "bomb"); }, "bomb: unpacks to more than the limit of 1000000 bytes");
    expect_bad_input([&] { entry.decompress(bomb, 4'999'999, "bomb"); }, "more than");
    EXPECT_EQ(decompress(entry.codec, bomb, 5'000'005, "bomb").size(), 5'000'000u) << "with five bytes for the shuffle";
  }
}

TEST(Codec, LzmaDictionariesAreLimited) {
  EXPECT_THROW(lzma_compress(repetitive(), 10), std::invalid_argument);
  // The filter flags of the first block: LZMA2 (0x21), one byte of properties, here for level 9's dictionary of 64 MiB (28).
  Bytes packed = lzma_compress(repetitive(), 9);
  const auto flags = to_bytes("\x21\x01\x1c"sv);
  const auto found = std::search(packed.begin(), packed.end(), flags.begin(), flags.end());
  ASSERT_NE(found, packed.end());
  *(found + 2) = std::byte{40};  // 4 GiB - 1
  // Its header of 12 bytes ends with a CRC32, which liblzma checks first.
  const auto header = packed.begin() + 12;
  ASSERT_EQ(header[0], std::byte{2}) << "(2 + 1) * 4 bytes";
  uint32_t crc = ~0u;
  for (auto byte = header; byte != header + 8; ++byte) {
    crc ^= static_cast<uint32_t>(*byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
  }
  crc = ~crc;
  std::memcpy(&header[8], &crc, sizeof crc);
  expect_bad_input([&] { lzma_decompress(packed, plenty, "f"); }, "its dictionary is too large");
}

TEST(Codec, DamageIsAnError) {
  for (const auto& entry : codecs) {
    SCOPED_TRACE(entry.name);
    const Bytes whole = compress(entry.codec, archive());
    expect_bad_input([&] { entry.decompress({}, plenty, "f"); }, "truncated");
    for (size_t size = 0; size < whole.size(); size += 7)
      expect_bad_input([&] { entry.decompress(BytesView(whole).first(size), plenty, "f"); }, "truncated");
    Bytes longer = whole;
    longer.push_back(std::byte{0});
    expect_bad_input([&] { entry.decompress(longer, plenty, "f"); }, "1 bytes follow the end");
    const int accepted =
        damage_everywhere(whole, [&](BytesView bytes) { EXPECT_LT(entry.decompress(bytes, plenty, "f").size(), plenty); });
    // zlib and xz have checksums; that of zlib covers all but a few bits of its header.
    EXPECT_LE(accepted, entry.codec == Codec::zlib ? 30 : entry.codec == Codec::lzma ? 0 : 100'000);
  }
  expect_bad_input([] { lzma_decompress(to_bytes("no xz stream at all"), plenty, "f"); }, "not a valid xz stream");
}

TEST(ByteShuffle, SeparatesTheBytesOf16BitNumbers) {
  EXPECT_EQ(byte_shuffle(to_bytes("aAbBcC")), to_bytes("BSHF\2abcABC"));
  EXPECT_EQ(byte_shuffle(to_bytes("aAbBc")), to_bytes("BSHF\2abcAB"));
  EXPECT_EQ(byte_shuffle(to_bytes("ab")), to_bytes("BSHF\2ab"));
  EXPECT_EQ(byte_shuffle(to_bytes("a")), to_bytes("a"));
  EXPECT_TRUE(byte_shuffle({}).empty());
  for (const size_t size : {0, 1, 2, 3, 1000, 1001}) {
    Bytes content = repetitive();
    content.resize(size);
    EXPECT_EQ(byte_unshuffle(byte_shuffle(content)), content) << size;
  }
}

TEST(ByteShuffle, TheInverseAcceptsAnyStride) {
  EXPECT_EQ(byte_unshuffle(to_bytes("BSHF\3adgbehcf")), to_bytes("abcdefgh"));
  EXPECT_EQ(byte_unshuffle(to_bytes("BSHF\xffxyz")), to_bytes("xyz")) << "a stride beyond the end";
  EXPECT_EQ(byte_unshuffle(to_bytes("BSHF\1xyz")), to_bytes("xyz"));
  EXPECT_EQ(byte_unshuffle(to_bytes("BSHF\0xyz"sv)), to_bytes("xyz"));
  EXPECT_TRUE(byte_unshuffle(to_bytes("BSHF\2")).empty());
  for (const std::string_view other : {""sv, "B"sv, "BSHF"sv, "BSHG\2xyz"sv, "xyz"sv})
    EXPECT_EQ(byte_unshuffle(to_bytes(other)), to_bytes(other));
}

}  // namespace
}  // namespace pgolf
