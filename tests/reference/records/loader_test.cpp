// The shuffled windows of the record programs, from the recorded batches.
#include <numeric>

#include "../support.h"
#include "pgolf/base/hash.h"
#include "pgolf/data/shuffled_loader.h"
#include "support/files.h"

namespace pgolf::reference {
namespace {

using testing::TempFolder;

class Loader : public ReferenceTest, public ::testing::WithParamInterface<const char*> {
 protected:
  /// The recording's shards: the train head, or three pieces of it.
  void write_shards(bool three) {
    const auto head = shared_folder() / "fineweb/sp1024/fineweb_train_head.bin";
    if (!three) return std::filesystem::create_symlink(std::filesystem::absolute(head), folder_ / "fineweb_train_0.bin");
    const Shard shard(head);
    size_t begin = 0, i = 0;
    for (const size_t end : {3000, 8000, 8900}) {
      ShardWriter writer(folder_ / ("fineweb_train_" + std::to_string(i++) + ".bin"));
      writer.append(shard.tokens().subspan(begin, end - begin));
      writer.commit();
      begin = end;
    }
  }

  TempFolder folder_;
  std::string pattern_ = (folder_ / "fineweb_train_*.bin").string();
};

/// Of the inputs as int32.
std::string inputs_sha256(std::span<const int64_t> tokens, size_t width) {
  std::vector<int32_t> inputs;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i % width != width - 1) inputs.push_back(static_cast<int32_t>(tokens[i]));
  }
  return sha256_hex(std::as_bytes(std::span(inputs)));
}

TEST_P(Loader, EveryWindowIsTheRecordedOne) {
  const auto recorded = load_json("records/common/loader.json").at("cases").at(GetParam());
  const int rank = recorded.at("rank"), world_size = recorded.at("world_size"), seq_len = recorded.at("seq_len");
  write_shards(GetParam() != std::string("one_file"));
  ShuffledLoader loader(pattern_, seq_len, rank, world_size);
  WindowOrder order(recorded.at("file_tokens").get<std::vector<int64_t>>(), seq_len, static_cast<uint32_t>(rank));
  EXPECT_EQ(order.left(), recorded.at("windows_per_file").get<std::vector<double>>());
  std::vector<std::vector<int64_t>> first(order.left().size());
  const auto& batches = recorded.at("batches");
  for (size_t i = 0; i < batches.size(); ++i) {
    const auto& batch = batches[i];
    const auto firsts = batch.at("first_tokens").get<std::vector<int64_t>>();
    const auto windows = static_cast<int64_t>(firsts.size());
    const auto tokens = loader.next(windows * seq_len * world_size, 1);
    const auto width = static_cast<size_t>(seq_len) + 1;
    ASSERT_EQ(tokens.size(), firsts.size() * width);
    EXPECT_EQ(inputs_sha256(tokens, width), batch.at("x_sha256").get<std::string>()) << "batch " << i;
    for (size_t w = 0; w < firsts.size(); ++w) {
      EXPECT_EQ(tokens[w * width], firsts[w]) << "batch " << i;
      const auto window = order.next();
      auto& starts = first[window.file];
      if (starts.size() < 12) starts.push_back(window.start);
    }
    EXPECT_EQ(order.left(), batch.at("windows_left").get<std::vector<double>>()) << "batch " << i;
    WindowOrder resumed(recorded.at("file_tokens").get<std::vector<int64_t>>(), seq_len, static_cast<uint32_t>(rank));
    resumed.seek(order.taken());
    EXPECT_EQ(NumpyRandom(resumed.random()).uniform(), NumpyRandom(order.random()).uniform()) << "batch " << i;
  }
  const auto& popped = recorded.at("pop_order_first_12_per_file");
  for (size_t file = 0; file < first.size(); ++file) {
    const auto expected = popped[file].get<std::vector<int64_t>>();
    // Of one file there may be fewer windows in the batches, and of a short one the second round's follow.
    for (size_t i = 0; i < std::min(expected.size(), first[file].size()); ++i) EXPECT_EQ(first[file][i], expected[i]);
  }
  NumpyRandom next = order.random();
  for (const auto& number : recorded.at("next_four_random_doubles")) EXPECT_EQ(next.uniform(), number.get<double>());
}

INSTANTIATE_TEST_SUITE_P(Common, Loader, ::testing::Values("one_file", "three_files", "three_files_rank1of2"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(Loader, TrainingTakesTheRecordedWindows) {
  const auto recorded = load_json("records/A_sdclip_loop/train_fp32.json").at("batch_start_indices");
  write_shards(false);
  const Shard shard(folder_ / "fineweb_train_0.bin");
  for (const char* part : {"training", "calibration"}) {
    WindowOrder order({static_cast<int64_t>(shard.tokens().size())}, 128, 0);
    for (const auto& batch : recorded.at(part)) {
      for (const auto& start : batch) EXPECT_EQ(order.next(), (WindowOrder::Window{0, start.get<int64_t>()})) << part;
    }
  }
}

}  // namespace
}  // namespace pgolf::reference
