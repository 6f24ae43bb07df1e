#include "pgolf/base/hash.h"

#include <gtest/gtest.h>

namespace pgolf {
namespace {

TEST(Sha256, KnownVectors) {
  // FIPS 180-4 examples and the empty message.
  EXPECT_EQ(sha256_hex(as_bytes("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex(as_bytes("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(as_bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256, IncrementalUpdatesGiveTheSameHash) {
  const std::string million(1'000'000, 'a');
  Sha256 hash;
  hash.update(as_bytes(std::string_view(million).substr(0, 1)));
  hash.update(as_bytes(""));
  hash.update(as_bytes(std::string_view(million).substr(1, 70'001)));
  hash.update(as_bytes(std::string_view(million).substr(70'002)));
  EXPECT_EQ(hash.hex(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace pgolf
