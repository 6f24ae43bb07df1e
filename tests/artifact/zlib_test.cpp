#include <gtest/gtest.h>
#include <zlib.h>

#include "pgolf/artifact/codec.h"
#include "pgolf/base/hash.h"
#include "support.h"

namespace pgolf {
namespace {

using artifact_test::damage_everywhere;
using artifact_test::expect_bad_input;
using artifact_test::shared_file;
using artifact_test::to_bytes;

Bytes sample() {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "pgolf ";
  for (int i = 0; i < 256; ++i) text += static_cast<char>(i);
  return to_bytes(text);
}

TEST(Zlib, RoundTripAtEveryLevel) {
  for (int level = 0; level <= 9; ++level) {
    const Bytes packed = zlib_compress(sample(), level);
    EXPECT_EQ(zlib_decompress(packed, 1 << 20, "x"), sample()) << level;
  }
  EXPECT_TRUE(zlib_decompress(zlib_compress({}, 9), 0, "x").empty());
  EXPECT_THROW(zlib_compress(sample(), 10), std::invalid_argument);
}

TEST(Zlib, BytesAreThoseOfPython) {
  if (std::string_view(::zlibVersion()) != "1.2.13") GTEST_SKIP() << "recorded with zlib 1.2.13, this is " << ::zlibVersion();
  const Bytes packed = zlib_compress(sample(), 9);
  EXPECT_EQ(packed.size(), 327u);
  EXPECT_EQ(sha256_hex(packed), "5ae1989926e0852860f88b54e451ec73f1544c87a73a281f1d225bd64ec6a200");
}

TEST(Zlib, RecompressesPythonsArtifactToTheSameBytes) {
  const auto path = shared_file("reference/train_tiny/fp32.final_model.int8.ptz");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const Bytes packed = read_bytes(path);
  const Bytes raw = zlib_decompress(packed, 1 << 24, path.string());
  EXPECT_EQ(raw.size(), 1'073'378u);
  EXPECT_EQ(sha256_hex(raw), "d508fa23bf3c83d12702e783422662a1a084d5ffa56eb8f7d9f00d8971a1939c");
  if (std::string_view(::zlibVersion()) != "1.2.13") GTEST_SKIP() << "recorded with zlib 1.2.13, this is " << ::zlibVersion();
  EXPECT_TRUE(zlib_compress(raw, 9) == packed);
}

TEST(Zlib, LimitStopsBombs) {
  const Bytes bomb = zlib_compress(Bytes(10'000'000), 9);
  ASSERT_LT(bomb.size(), 20'000u);
  expect_bad_input([&] { zlib_decompress(bomb, 1'000'000, "bomb.ptz"); },
                   "bomb.ptz: unpacks to more than the limit of 1000000 bytes");
  expect_bad_input([&] { zlib_decompress(bomb, 9'999'999, "bomb.ptz"); }, "more than");
  EXPECT_EQ(zlib_decompress(bomb, 10'000'000, "bomb.ptz").size(), 10'000'000u);
}

TEST(Zlib, DamageIsAnError) {
  const Bytes whole = zlib_compress(sample(), 9);
  expect_bad_input([&] { zlib_decompress(to_bytes("PK\3\4 no zlib"), 1000, "x"); }, "not a valid zlib stream");
  expect_bad_input([&] { zlib_decompress({}, 1000, "x"); }, "truncated");
  Bytes longer = whole;
  longer.push_back(std::byte{0});
  expect_bad_input([&] { zlib_decompress(longer, 1 << 20, "x"); }, "1 bytes follow");
  // The checksum covers the content; only a few bits of the header are not covered.
  const int accepted =
      damage_everywhere(whole, [](BytesView bytes) { EXPECT_EQ(zlib_decompress(bytes, 1 << 20, "x"), sample()); });
  EXPECT_LT(accepted, 30);
}

}  // namespace
}  // namespace pgolf
