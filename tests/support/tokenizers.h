// SentencePiece models with settings of all kinds, as other people make them.
#pragma once

#include <gtest/gtest.h>
#include <sentencepiece_trainer.h>

#include <random>
#include <string>
#include <unordered_map>
#include <vector>

namespace pgolf::testing {

/// Texts of words and numbers, with characters of two, three and four bytes, that normalization leaves as they are.
inline std::vector<std::string> normalized_texts(unsigned seed = 1, int count = 80) {
  static const std::vector<std::string> words = {
      "the",    "of",     "river",      "sings", "under", "bridge", "1987", "caf\u00e9", "\u4e00\u4e8c", "\u0436\u0438\u0437",
      "stone.", "walks,", "\U0001f642", "a"};
  std::mt19937 random(seed);
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (int word = 0; word < 30; ++word) text += (word == 0 ? "" : " ") + words[random() % words.size()];
    texts.push_back(text);
  }
  return texts;
}

class Sentences : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(const std::vector<std::string>& texts) : texts_(texts) {}
  bool done() const override { return next_ == texts_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return texts_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& texts_;
  size_t next_ = 0;
};

using SentencePieceOptions = std::unordered_map<std::string, std::string>;

/// A serialized model trained on texts: BPE, 400 pieces, byte fallback, ids 0 pad, 1 BOS, 2 EOS, 3 unknown, else SentencePiece's
/// own defaults, among them a dummy prefix.
inline std::string train_sentencepiece(const std::vector<std::string>& texts, const SentencePieceOptions& changes = {}) {
  SentencePieceOptions options{{"model_type", "bpe"}, {"vocab_size", "400"}, {"byte_fallback", "true"},
                               {"pad_id", "0"},       {"bos_id", "1"},       {"eos_id", "2"},
                               {"unk_id", "3"},       {"minloglevel", "2"},  {"hard_vocab_limit", "false"}};
  for (const auto& [name, value] : changes) options[name] = value;
  std::string model;
  Sentences sentences(texts);
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &sentences, &model);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return model;
}

/// The model with another piece in place of the lone space.
inline std::string without_lone_space(std::string model) {
  const std::string field = "\x0a\x03\xe2\x96\x81";  // of the piece's protocol buffer
  const size_t at = model.find(field);
  EXPECT_NE(at, std::string::npos);
  model.replace(at, field.size(), "\x0a\x03zqj");
  return model;
}

}  // namespace pgolf::testing
