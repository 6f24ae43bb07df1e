#include "pgolf/data/shard.h"

#include <gtest/gtest.h>

#include <numeric>

#include "data/fixtures.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempFolder;

TEST(Shard, ReadsTokens) {
  TempFolder folder;
  const std::vector<uint16_t> tokens = {1, 2, 1023, 65535, 0};
  testing::write_file(folder / "a.bin", testing::shard_bytes(tokens));
  const Shard shard(folder / "a.bin");
  EXPECT_EQ(std::vector<uint16_t>(shard.tokens().begin(), shard.tokens().end()), tokens);
}

TEST(Shard, EveryDamageHasItsOwnMessage) {
  TempFolder folder;
  const std::string whole = testing::shard_bytes({1, 5, 6, 7});
  const auto damaged = [&](const std::string& content, const std::string& message) {
    testing::write_file(folder / "bad.bin", content);
    expect_error(ExitCode::bad_input, {"bad.bin", message, "prepare_data"}, [&] { Shard shard(folder / "bad.bin"); });
  };
  const auto with = [&](size_t index, int32_t value) {
    std::string content = whole;
    testing::put_int32(content, index, value);
    return content;
  };
  damaged("", "the file is empty");
  damaged(whole.substr(0, 3), "truncated: 3 bytes");
  damaged(whole.substr(0, 1023), "truncated: 1023 bytes");
  damaged(with(0, 20240521), "starts with 20240521");
  damaged("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 200001024\n", "it is a Git LFS pointer");
  damaged("<html><body>404</body></html>", "it is a web page");
  damaged(with(1, 2), "version 2");
  damaged(with(2, 0), "declares 0 tokens");
  damaged(with(2, -4), "declares -4 tokens");
  damaged(with(2, 5), "truncated: the header declares 5 tokens, which need 1034 bytes, but the file has 1032");
  damaged(with(2, 2147483647), "truncated: the header declares 2147483647");
  damaged(with(2, 3), "too long");
  damaged(whole.substr(0, whole.size() - 1), "truncated");
  damaged(whole + "x", "too long");
}

TEST(Shard, MissingFileAndFolder) {
  TempFolder folder;
  expect_error(ExitCode::bad_input, {"none.bin"}, [&] { Shard shard(folder / "none.bin"); });
  expect_error(ExitCode::bad_input, {folder.path().string()}, [&] { Shard shard(folder.path()); });
}

TEST(Shard, TokenRange) {
  TempFolder folder;
  testing::write_file(folder / "a.bin", testing::shard_bytes({1, 5, 1024, 7}));
  const Shard shard(folder / "a.bin");
  shard.check_token_range(1025);
  shard.check_token_range(kMaxVocabSize);
  shard.check_token_range(1024, 3, 4);
  expect_error(ExitCode::bad_input, {"a.bin", "token 2", "id 1024", "1024 tokens"}, [&] { shard.check_token_range(1024); });
  expect_error(ExitCode::bad_input, {"token 1 has id 5"}, [&] { shard.check_token_range(2, 1, 3); });
}

TEST(FindShards, SaysWhyThereAreNone) {
  TempFolder folder;
  fs::create_directories(folder / "run1");
  testing::write_file(folder / "run1/fineweb_val_0.bin", testing::shard_bytes({1}));
  fs::create_directories(folder / "run[1]");
  expect_error(ExitCode::bad_input, {"no token shards match ", "run[1]/fineweb_val_*.bin"},
               [&] { find_shards((folder / "run[1]/fineweb_val_*.bin").string()); });
  expect_error(ExitCode::bad_input, {"there is no folder " + (folder / "run?").string()},
               [&] { find_shards((folder / "run?/fineweb_val_*.bin").string()); });
}

TEST(ShardWriter, WritesTheFormat) {
  TempFolder folder;
  ShardWriter writer(folder / "a.bin");
  writer.append(std::vector<uint16_t>{1, 300});
  writer.append(std::vector<uint16_t>{});
  writer.append(std::vector<uint16_t>{65535});
  EXPECT_EQ(writer.token_count(), 3);
  EXPECT_FALSE(std::filesystem::exists(folder / "a.bin")) << "visible before commit";
  writer.commit();
  EXPECT_EQ(testing::read_file(folder / "a.bin"), testing::shard_bytes({1, 300, 65535}));
}

TEST(ShardWriter, MoreTokensThanItsBuffer) {
  TempFolder folder;
  std::vector<uint16_t> tokens(1'200'001);
  std::iota(tokens.begin(), tokens.end(), uint16_t{0});
  ShardWriter writer(folder / "a.bin");
  writer.append(std::span(tokens).first(7));
  writer.append(std::span(tokens).subspan(7));
  writer.commit();
  const Shard shard(folder / "a.bin");
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), shard.tokens().begin(), shard.tokens().end()));
}

TEST(ShardWriter, LeavesNothingWithoutCommit) {
  TempFolder folder;
  { ShardWriter(folder / "a.bin").append(std::vector<uint16_t>{1, 2}); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace pgolf
