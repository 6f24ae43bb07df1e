#include "pgolf/data/token_stream.h"

#include <gtest/gtest.h>

#include "data/fixtures.h"
#include "pgolf/data/token_loader.h"
#include "pgolf/data/validation_set.h"

namespace pgolf {
namespace {

using testing::expect_error;
using testing::TempFolder;

/// The tokens of all shards in reading order; endless.
struct Model {
  std::vector<uint16_t> all;
  size_t at = 0;

  std::vector<uint16_t> take(size_t n) {
    std::vector<uint16_t> out;
    for (size_t i = 0; i < n; ++i) out.push_back(all[at++ % all.size()]);
    return out;
  }
};

class Stream : public ::testing::Test {
 protected:
  /// Shards of these sizes with consecutive tokens. Written in reverse, so that only sorting restores the order.
  Model write_shards(const std::vector<int>& sizes, const std::string& split = "train") {
    Model model;
    std::vector<std::vector<uint16_t>> shards;
    uint16_t next = 0;
    for (const int size : sizes) {
      auto& shard = shards.emplace_back();
      for (int i = 0; i < size; ++i) shard.push_back(next++);
      model.all.insert(model.all.end(), shard.begin(), shard.end());
    }
    for (size_t i = shards.size(); i-- > 0;) {
      testing::write_file(folder / format("fineweb_%s_%06zu.bin", split.c_str(), i), testing::shard_bytes(shards[i]));
    }
    return model;
  }

  static std::vector<uint16_t> take(TokenStream& stream, size_t n) {
    std::vector<uint16_t> out(n);
    stream.take(out);
    return out;
  }

  TempFolder folder;
  std::string pattern = (folder / "fineweb_train_*.bin").string();
};

TEST_F(Stream, WrapsOverShardsLikeOneEndlessList) {
  Model model = write_shards({10, 3, 1, 7});
  TokenStream stream(pattern);
  EXPECT_EQ(stream.total_tokens(), 21);
  for (const size_t n : {4u, 6u, 3u, 1u, 7u, 1u, 25u, 0u, 64u, 5u, 5u, 10u}) EXPECT_EQ(take(stream, n), model.take(n)) << n;
}

TEST_F(Stream, OneShardWraps) {
  Model model = write_shards({5});
  TokenStream stream(pattern);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(take(stream, 3), model.take(3));
}

TEST_F(Stream, CursorStaysAtTheEndUntilTheNextTake) {
  write_shards({4, 6});
  TokenStream stream(pattern);
  EXPECT_EQ(stream.cursor(), (TokenCursor{0, 0}));
  take(stream, 4);
  EXPECT_EQ(stream.cursor(), (TokenCursor{0, 4}));
  take(stream, 1);
  EXPECT_EQ(stream.cursor(), (TokenCursor{1, 1}));
  take(stream, 5);
  EXPECT_EQ(stream.cursor(), (TokenCursor{1, 6}));
  take(stream, 1);
  EXPECT_EQ(stream.cursor(), (TokenCursor{0, 1}));
}

TEST_F(Stream, ResumesFromEveryCursor) {
  const Model fresh = write_shards({4, 6, 2});
  for (size_t taken = 0; taken < 30; ++taken) {
    TokenStream stream(pattern);
    take(stream, taken);
    TokenStream resumed(pattern);
    resumed.seek(stream.cursor());
    Model model = fresh;
    model.take(taken);
    EXPECT_EQ(take(resumed, 9), model.take(9)) << taken;
    take(stream, 9);
    EXPECT_EQ(resumed.cursor(), stream.cursor()) << taken;
  }
}

TEST_F(Stream, SeekRejectsInvalidPositions) {
  write_shards({4, 6});
  TokenStream stream(pattern);
  stream.seek({1, 6});
  for (const TokenCursor cursor : {TokenCursor{2, 0}, TokenCursor{-1, 0}, TokenCursor{0, 5}, TokenCursor{0, -1}}) {
    expect_error(ExitCode::bad_input, {"does not exist"}, [&] { stream.seek(cursor); });
  }
  EXPECT_EQ(stream.cursor(), (TokenCursor{1, 6}));
}

TEST_F(Stream, MissingShardsNameThePatternAndTheFix) {
  expect_error(ExitCode::bad_input, {pattern, "scripts/download_fineweb.sh", "prepare_data"},
               [&] { TokenStream stream(pattern); });
}

TEST_F(Stream, DamagedLaterShardIsFoundAtOnce) {
  write_shards({4, 6});
  testing::write_file(folder / "fineweb_train_000002.bin", "x");
  expect_error(ExitCode::bad_input, {"fineweb_train_000002.bin"}, [&] { TokenStream stream(pattern); });
}

TEST_F(Stream, ForeignIdIsFoundWhenTakenAndInTheFirstShardAtOnce) {
  write_shards({4, 6});
  expect_error(ExitCode::bad_input, {"fineweb_train_000000.bin", "token 3 has id 3", "3 tokens"},
               [&] { TokenStream(pattern, /*vocab_size=*/3); });
  TokenStream stream(pattern, /*vocab_size=*/7);
  take(stream, 7);
  expect_error(ExitCode::bad_input, {"fineweb_train_000001.bin", "token 3 has id 7"}, [&] { take(stream, 1); });
  EXPECT_EQ(stream.cursor(), (TokenCursor{1, 3}));
}

TEST_F(Stream, LoaderGivesEachRankItsSpan) {
  write_shards({50, 31, 44});
  for (const int world_size : {1, 2, 4}) {
    Model model = write_shards({50, 31, 44});
    std::vector<TokenLoader> ranks;
    for (int rank = 0; rank < world_size; ++rank) ranks.emplace_back(pattern, rank, world_size);
    for (int step = 0; step < 12; ++step) {
      const size_t local = static_cast<size_t>(67 / (world_size * 2));
      for (auto& loader : ranks) {
        const auto expected = model.take(local + 1);
        const auto got = loader.next(67, 2);
        EXPECT_EQ(std::vector<uint16_t>(got.begin(), got.end()), expected) << "world " << world_size << " step " << step;
      }
    }
    for (auto& loader : ranks) EXPECT_EQ(loader.cursor(), ranks.front().cursor());
  }
}

TEST_F(Stream, LoaderResumes) {
  write_shards({50, 31});
  TokenLoader loader(pattern, 1, 2);
  for (int i = 0; i < 5; ++i) loader.next(40, 1);
  TokenLoader resumed(pattern, 1, 2);
  resumed.seek(loader.cursor());
  for (int i = 0; i < 5; ++i) {
    const auto a = loader.next(40, 1);
    const auto b = resumed.next(40, 1);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
}

TEST_F(Stream, LoaderRejectsInvalidArguments) {
  write_shards({50});
  expect_error(ExitCode::usage, {"rank 2"}, [&] { TokenLoader loader(pattern, 2, 2); });
  expect_error(ExitCode::usage, {"TRAIN_BATCH_TOKENS"}, [&] { TokenLoader(pattern, 0, 2).next(7, 4); });
}

using Validation = Stream;

TEST_F(Validation, JoinsShardsAndKeepsWholeSequences) {
  const std::string val = (folder / "fineweb_val_*.bin").string();
  for (const auto& sizes : {std::vector<int>{21}, std::vector<int>{3, 9, 9}, std::vector<int>{20, 1}}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) std::filesystem::remove(entry);
    const Model model = write_shards(sizes, "val");
    const auto expect_first = [&](const ValidationSet& set, int64_t sequences, size_t tokens) {
      EXPECT_EQ(set.sequences(), sequences);
      ASSERT_EQ(set.tokens().size(), tokens);
      EXPECT_TRUE(std::equal(set.tokens().begin(), set.tokens().end(), model.all.begin()));
    };
    expect_first(ValidationSet(val, 4), 5, 21);
    expect_first(ValidationSet(val, 7), 2, 15);
    expect_first(ValidationSet(val, 20), 1, 21);
    expect_first(ValidationSet(val, 4, 4), 1, 5);
    expect_first(ValidationSet(val, 4, 11), 2, 9);
    expect_first(ValidationSet(val, 4, 1000), 5, 21);
    expect_first(ValidationSet(val, 4, 8, /*vocab_size=*/9), 2, 9);
    expect_error(ExitCode::bad_input, {"token", "id 8"}, [&] { ValidationSet set(val, 4, 8, /*vocab_size=*/8); });
    expect_error(ExitCode::bad_input, {"too short", "sequences of 21 tokens", "has 21 tokens"},
                 [&] { ValidationSet set(val, 21); });
    expect_error(ExitCode::usage, {"EVAL_TOKENS=3"}, [&] { ValidationSet set(val, 4, 3); });
  }
}

TEST_F(Validation, MissingShards) {
  expect_error(ExitCode::bad_input, {"fineweb_val_*", "prepare_data"},
               [&] { ValidationSet set((folder / "fineweb_val_*.bin").string(), 4); });
}

}  // namespace
}  // namespace pgolf
