// Training windows in random order, as the record programs draw them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pgolf/data/batch_loader.h"
#include "pgolf/data/numpy_random.h"

namespace pgolf {

/// The order in which windows are taken from files of which it knows only the lengths. Each file is cut into windows of seq_len
/// tokens, one after the other from a random place below seq_len, and they are permuted; a window's file is drawn in proportion
/// to the windows that each has left. Once all windows have been taken, all files are cut anew.
class WindowOrder {
 public:
  /// file_tokens: the lengths; at least one must be above seq_len, because a window's targets end one token after it. seed:
  /// NumpyRandom's.
  WindowOrder(std::vector<int64_t> file_tokens, int seq_len, uint32_t seed);

  struct Window {
    size_t file = 0;
    int64_t start = 0;  ///< its first token's place in the file

    bool operator==(const Window&) const = default;
  };
  Window next();

  /// Windows taken so far.
  int64_t taken() const { return taken_; }
  /// Starts over and takes so many windows, without building those of finished rounds.
  void seek(int64_t taken);

  /// Windows that each file has left.
  const std::vector<double>& left() const { return left_; }
  /// The generator's state after the windows taken so far.
  const NumpyRandom& random() const { return random_; }

 private:
  void cut_files();

  struct File {
    int64_t tokens;
    int64_t phase = 0;                   ///< where its first window starts
    std::vector<uint32_t> windows = {};  ///< left, by their place in the file; the next one is the last
  };

  std::vector<File> files_;
  int seq_len_;
  uint32_t seed_;
  NumpyRandom random_;
  std::vector<double> left_;  ///< whole numbers
  double total_left_ = 0;
  int64_t taken_ = 0;
};

/// Of n shards, rank r owns numbers r, r + world_size, ... and draws their windows with seed r: another SEED does not change
/// them, another WORLD_SIZE does.
class ShuffledLoader : public BatchLoader {
 public:
  /// Needs 0 <= rank < world_size. Error(bad_input) if this rank has no shard, or none of more than seq_len tokens. Ids >=
  /// vocab_size as in TokenStream.
  ShuffledLoader(const std::string& pattern, int seq_len, int rank, int world_size, int vocab_size = kMaxVocabSize);

  /// A span is a window of seq_len + 1 tokens.
  std::span<const int64_t> next(int64_t global_tokens, int grad_accum_steps) override;

  /// file_index is 0, position the number of windows that this rank has taken.
  TokenCursor cursor() const override { return {0, order_.taken()}; }
  void seek(TokenCursor cursor) override;
  int64_t span_tokens(int64_t /*local_tokens*/) const override { return seq_len_; }
  size_t file_count() const override { return file_count_; }

 private:
  ShuffledLoader(const std::vector<std::filesystem::path>& files, int seq_len, int rank, int world_size, int vocab_size);

  size_t file_count_;
  std::vector<Shard> shards_;  // this rank's
  int seq_len_;
  int world_size_;
  int vocab_size_;
  WindowOrder order_;
  std::vector<int64_t> tokens_;
};

}  // namespace pgolf
