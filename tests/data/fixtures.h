// Shared by the data tests: handmade shards, a small corpus, a tokenizer.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "pgolf/prepare/prepare.h"
#include "support/files.h"

namespace pgolf::testing {

inline std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void put_int32(std::string& content, size_t index, int32_t value) {
  content.replace(index * 4, 4, reinterpret_cast<const char*>(&value), 4);
}

/// A shard's bytes, made without the code under test.
inline std::string shard_bytes(const std::vector<uint16_t>& tokens) {
  std::string content(1024, '\0');
  put_int32(content, 0, 20240520);
  put_int32(content, 1, 1);
  put_int32(content, 2, static_cast<int32_t>(tokens.size()));
  for (const uint16_t token : tokens) {
    content += static_cast<char>(token & 0xff);
    content += static_cast<char>(token >> 8);
  }
  return content;
}

/// Sentences of a small made-up language; the same seed gives the same text.
inline std::string sample_text(unsigned seed, int words) {
  static const std::vector<std::string> vocabulary = {
      "river",   "mountain", "the",     "a",         "of",     "and",    "to",      "walks",     "sings", "under",
      "over",    "light",    "morning", "evening",   "small",  "great",  "stone",   "bridge",    "house", "garden",
      "winter",  "summer",   "because", "therefore", "never",  "always", "carries", "remembers", "water", "thinking",
      "walking", "singing",  "reading", "writer",    "reader", "letter", "paper",   "1987",      "42"};
  std::mt19937 generator(seed);
  std::string text;
  for (int i = 0; i < words; ++i) {
    if (i > 0) text += ' ';
    text += vocabulary[generator() % vocabulary.size()];
    if (generator() % 9 == 0) text += '.';
  }
  return text;
}

inline void write_jsonl(const fs::path& path, const std::vector<std::string>& texts) {
  std::string content;
  for (const auto& text : texts) content += "{\"text\": \"" + text + "\"}\n";
  write_file(path, content);
}

inline std::vector<std::string> sample_documents(int count) {
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) texts.push_back(sample_text(static_cast<unsigned>(i), 20 + i % 50));
  return texts;
}

/// A tokenizer of 360 pieces trained on sample_documents.
inline fs::path train_small_tokenizer(const TempFolder& folder) {
  const fs::path corpus = folder / "tokenizer_corpus.jsonl";
  write_jsonl(corpus, sample_documents(100));
  TrainTokenizerOptions options;
  options.inputs = {corpus};
  options.vocab_size = 360;
  options.output = folder / "small.model";
  train_tokenizer(options);
  return options.output;
}

/// The folder of reference material, or empty if there is none.
inline fs::path shared_folder() {
  const char* given = std::getenv("PGOLF_SHARED");
  const fs::path path = given != nullptr ? fs::path(given) : fs::path(PGOLF_SOURCE_DIR) / ".." / "shared";
  return fs::exists(path / "fineweb") ? path : fs::path();
}

}  // namespace pgolf::testing

#define PGOLF_SKIP_WITHOUT_SHARED()                                                             \
  if (pgolf::testing::shared_folder().empty()) {                                                \
    GTEST_SKIP() << "no reference data; set PGOLF_SHARED to the folder that contains fineweb/"; \
  }
