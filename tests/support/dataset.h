// A small dataset made on the spot: text of a made-up language, a tokenizer trained on it, shards.
#pragma once

#include <random>

#include "pgolf/data/shard.h"
#include "pgolf/data/tokenizer.h"
#include "pgolf/prepare/prepare.h"
#include "support/files.h"

namespace pgolf::testing {

/// Of the tokenizers that train_tokenizer() makes.
inline constexpr uint16_t kBosId = 1;

/// The same seed gives the same text.
inline std::string made_up_text(unsigned seed, int words) {
  static const std::vector<std::string> lexicon = {
      "the",   "a",       "river",  "mountain", "light",  "walks",  "sings",  "under", "over",     "and",
      "of",    "morning", "small",  "great",    "stone",  "bridge", "house",  "water", "who",      "remembers",
      "never", "always",  "letter", "paper",    "winter", "summer", "garden", "42",    "caf\u00e9"};
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < words; ++i) {
    if (i > 0) text += ' ';
    text += lexicon[random() % lexicon.size()];
    if (random() % 8 == 0) text += '.';
  }
  return text;
}

/// Made once per process and removed at its end.
class Dataset {
 public:
  static constexpr int vocab_size = 320;

  static const Dataset& get() {
    static const Dataset dataset;
    return dataset;
  }

  std::string data_path() const { return (folder_ / "shards").string(); }
  std::string tokenizer_path() const { return (folder_ / "tokenizer.model").string(); }
  std::string val_files() const { return data_path() + "/fineweb_val_*.bin"; }

 private:
  Dataset() {
    std::string corpus;
    for (unsigned i = 0; i < 120; ++i) corpus += "{\"text\": \"" + made_up_text(i, 40) + "\"}\n";
    write_file(folder_ / "corpus.jsonl", corpus);
    TrainTokenizerOptions options;
    options.inputs = {folder_ / "corpus.jsonl"};
    options.vocab_size = vocab_size;
    options.output = tokenizer_path();
    train_tokenizer(options);
    const Tokenizer tokenizer(tokenizer_path());
    fs::create_directories(data_path());
    write_shard(tokenizer, "fineweb_train_000000.bin", 1000, 60);
    write_shard(tokenizer, "fineweb_train_000001.bin", 2000, 60);
    write_shard(tokenizer, "fineweb_val_000000.bin", 3000, 12);
  }

  void write_shard(const Tokenizer& tokenizer, const std::string& name, unsigned first_seed, unsigned documents) {
    ShardWriter writer(fs::path(data_path()) / name);
    for (unsigned i = 0; i < documents; ++i) {
      std::vector<uint16_t> tokens{kBosId};
      for (const int id : tokenizer.encode(made_up_text(first_seed + i, 40))) tokens.push_back(static_cast<uint16_t>(id));
      writer.append(tokens);
    }
    writer.commit();
  }

  TempFolder folder_;
};

}  // namespace pgolf::testing
