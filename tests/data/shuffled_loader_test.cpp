#include "pgolf/data/shuffled_loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "data/fixtures.h"

namespace pgolf {
namespace {

using testing::expect_error;
using testing::TempFolder;
using Window = WindowOrder::Window;

// Expected numbers: NumPy 2.4.6.

TEST(NumpyRandom, Uniform) {
  const std::map<uint32_t, std::vector<double>> expected{
      {0, {0x1.461fd79fb3850p-1, 0x1.1442f7e20b674p-2, 0x1.4fa7b529d9bd0p-5}},
      {1, {0x1.060d7be6f245cp-1, 0x1.e6a32d7782a55p-1, 0x1.273d27b04760cp-3}},
      {4294967295, {0x1.01fd7ea4c363ep-2, 0x1.c0a59175cb424p-3, 0x1.262df73ba3636p-2}}};
  for (const auto& [seed, numbers] : expected) {
    NumpyRandom random(seed);
    for (const double number : numbers) EXPECT_EQ(random.uniform(), number) << seed;
  }
}

TEST(NumpyRandom, BelowAndTheOtherHalfOfItsNumber) {
  NumpyRandom random(2);
  for (const auto& [count, expected] : std::vector<std::pair<uint32_t, uint32_t>>{{1, 0},
                                                                                  {2, 1},
                                                                                  {10, 2},
                                                                                  {3221225472, 961507274},
                                                                                  {3221225472, 1332987094},
                                                                                  {3221225472, 2622804695},
                                                                                  {1000, 451},
                                                                                  {7, 0}})
    EXPECT_EQ(random.below(count), expected) << count;
  // A half that is left stays so while 64 bits are drawn.
  EXPECT_EQ(random.uniform(), 0x1.3340604aab75cp-1);
  EXPECT_EQ(random.below(100), 81u);
  EXPECT_EQ(random.below(100), 72u);
}

TEST(NumpyRandom, Permutation) {
  NumpyRandom random(3);
  EXPECT_EQ(random.permutation(12), (std::vector<uint32_t>{11, 7, 2, 10, 0, 1, 4, 6, 9, 5, 3, 8}));
  EXPECT_EQ(random.permutation(1), std::vector<uint32_t>{0});
  EXPECT_EQ(random.permutation(0), std::vector<uint32_t>{});
  EXPECT_EQ(random.permutation(5), (std::vector<uint32_t>{0, 4, 3, 2, 1}));
  EXPECT_EQ(random.uniform(), 0x1.d199c08085e40p-4);
}

TEST(NumpyRandom, Choice) {
  NumpyRandom random(4);
  const std::vector<double> weights{3, 0, 5, 1};
  for (const size_t expected : {3, 2, 3, 0, 2, 2, 2, 0, 2, 2, 3, 2, 2, 2, 3, 2}) EXPECT_EQ(random.choice(weights, 9), expected);
  EXPECT_EQ(random.uniform(), 0x1.f017f8137720ap-1);
}

// From the definition in Python on NumPy; the third file is too short for a window.
const std::vector<int64_t> kFiles{20, 9, 4, 13};
const std::vector<Window> kWindows{{0, 10}, {0, 6}, {1, 1}, {0, 14}, {0, 2},  {3, 2}, {3, 6},  {3, 1},
                                   {3, 5},  {0, 5}, {0, 9}, {1, 1},  {0, 13}, {0, 1}, {0, 15}, {3, 2},
                                   {3, 6},  {0, 7}, {1, 4}, {0, 11}, {1, 0},  {0, 3}, {0, 3},  {3, 7}};
constexpr double kNextUniform = 0x1.cb4f250e51742p-2;

TEST(WindowOrder, DrawsWhatTheRecordProgramsDraw) {
  WindowOrder order(kFiles, 4, 5);
  for (const Window& expected : kWindows) EXPECT_EQ(order.next(), expected) << order.taken();
  EXPECT_EQ(NumpyRandom(order.random()).uniform(), kNextUniform);
}

TEST(WindowOrder, EveryRoundTakesEveryWindowOnce) {
  WindowOrder order({1000, 333}, 10, 1);
  for (int round = 0; round < 3; ++round) {
    std::map<size_t, std::vector<int64_t>> starts;
    const auto left = [&] { return order.left()[0] + order.left()[1]; };
    do {
      const Window window = order.next();
      starts[window.file].push_back(window.start);
    } while (left() > 0);
    for (auto& [file, found] : starts) {
      std::ranges::sort(found);
      EXPECT_LT(found.front(), 10);
      for (size_t i = 1; i < found.size(); ++i) EXPECT_EQ(found[i], found[i - 1] + 10);
      const int64_t tokens = file == 0 ? 1000 : 333;
      EXPECT_LT(found.back() + 10, tokens);  // the last target is in the file
      EXPECT_GE(found.back() + 20, tokens);
    }
  }
}

TEST(WindowOrder, SeekGivesTheSameRest) {
  for (size_t taken = 0; taken <= kWindows.size(); ++taken) {
    WindowOrder order(kFiles, 4, 5);
    order.next();  // wherever it has been before
    order.seek(static_cast<int64_t>(taken));
    EXPECT_EQ(order.taken(), static_cast<int64_t>(taken));
    for (size_t i = taken; i < kWindows.size(); ++i) EXPECT_EQ(order.next(), kWindows[i]) << "from " << taken;
    EXPECT_EQ(NumpyRandom(order.random()).uniform(), kNextUniform) << "from " << taken;
  }
}

class Shuffled : public ::testing::Test {
 protected:
  /// Shards of consecutive tokens from 0, 1000, 2000, ...
  void write_shards(const std::vector<int>& sizes) {
    for (size_t shard = 0; shard < sizes.size(); ++shard) {
      std::vector<uint16_t> tokens;
      for (int i = 0; i < sizes[shard]; ++i) tokens.push_back(static_cast<uint16_t>(1000 * shard + static_cast<size_t>(i)));
      testing::write_file(folder / format("fineweb_train_%06zu.bin", shard), testing::shard_bytes(tokens));
    }
  }

  TempFolder folder;
  std::string pattern = (folder / "fineweb_train_*.bin").string();
};

TEST_F(Shuffled, ReadsTheWindowsOfItsShards) {
  write_shards({20, 15, 9, 18, 4, 30, 13});
  for (int rank = 0; rank < 2; ++rank) {
    ShuffledLoader loader(pattern, 4, rank, 2);
    EXPECT_EQ(loader.file_count(), 7u);
    WindowOrder order(rank == 0 ? std::vector<int64_t>{20, 9, 4, 13} : std::vector<int64_t>{15, 18, 30}, 4,
                      static_cast<uint32_t>(rank));
    for (int batch = 0; batch < 30; ++batch) {
      // 50 tokens over 2 ranks and 2 micro-steps are 12, which are 3 windows.
      const auto tokens = loader.next(50, 2);
      ASSERT_EQ(tokens.size(), 15u);
      for (size_t i = 0; i < 3; ++i) {
        const Window window = order.next();
        const auto shard = 2 * window.file + static_cast<size_t>(rank);
        for (size_t t = 0; t < 5; ++t) EXPECT_EQ(tokens[5 * i + t], static_cast<int64_t>(1000 * shard + t) + window.start);
      }
    }
  }
}

TEST_F(Shuffled, Resumes) {
  write_shards({50, 31});
  ShuffledLoader loader(pattern, 4, 0, 1);
  for (int i = 0; i < 7; ++i) loader.next(16, 1);  // in the second round
  EXPECT_EQ(loader.cursor(), (TokenCursor{0, 28}));
  ShuffledLoader resumed(pattern, 4, 0, 1);
  resumed.seek(loader.cursor());
  for (int i = 0; i < 20; ++i) {
    const auto a = loader.next(16, 1), b = resumed.next(16, 1);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
}

TEST_F(Shuffled, RejectsWhatItCannotRead) {
  write_shards({50, 5});
  expect_error(ExitCode::bad_input, {"process 2 of 3", "2 next to", "fewer processes"},
               [&] { ShuffledLoader loader(pattern, 4, 2, 3); });
  expect_error(ExitCode::bad_input, {"fineweb_train_000001.bin", "TRAIN_SEQ_LEN=5", "5 tokens"},
               [&] { ShuffledLoader loader(pattern, 5, 1, 2); });
  expect_error(ExitCode::usage, {"TRAIN_BATCH_TOKENS"}, [&] { ShuffledLoader(pattern, 4, 0, 1).next(15, 4); });
  expect_error(ExitCode::bad_input, {"fineweb_train_000000.bin", "token 49 has id 49", "49 tokens"},
               [&] { ShuffledLoader loader(pattern, 4, 0, 2, /*vocab_size=*/49); });
  write_shards({20, 15});
  ShuffledLoader second(pattern, 4, 0, 1, /*vocab_size=*/1010);
  expect_error(ExitCode::bad_input, {"fineweb_train_000001.bin", "id 101", "1010 tokens"}, [&] {
    for (int i = 0; i < 100; ++i) second.next(8, 1);
  });
  for (const TokenCursor cursor : {TokenCursor{1, 0}, TokenCursor{0, -1}})
    expect_error(ExitCode::bad_input, {"LOADER"}, [&] { ShuffledLoader(pattern, 4, 0, 1).seek(cursor); });
}

}  // namespace
}  // namespace pgolf
