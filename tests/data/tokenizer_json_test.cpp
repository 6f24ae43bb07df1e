#include "pgolf/data/tokenizer_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "support/tokenizers.h"

namespace pgolf::testing {
namespace {

using nlohmann::json;

Tokenizer trained(const SentencePieceOptions& changes = {}) {
  return {train_sentencepiece(normalized_texts(), changes), "test.model"};
}

/// BPE by its definition: of all neighbors the pair that stands first in "merges", and of those the leftmost, becomes one piece.
/// text: as after the normalizer.
std::vector<int> merged(const json& model, const std::string& text) {
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (const auto& pair : model["merges"]) ranks.emplace(pair.get<std::pair<std::string, std::string>>(), ranks.size());
  const auto vocabulary = model["vocab"].get<std::map<std::string, int>>();
  std::vector<std::string> symbols;
  for (const char byte : text) {
    const bool continues = (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
    if (!continues || symbols.empty()) symbols.emplace_back();
    symbols.back() += byte;
  }
  while (true) {
    size_t best = ranks.size(), at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto rank = ranks.find({symbols[i], symbols[i + 1]});
      if (rank != ranks.end() && rank->second < best) best = rank->second, at = i;
    }
    if (best == ranks.size()) break;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<int> ids;
  for (const auto& symbol : symbols) {
    if (const auto id = vocabulary.find(symbol); id != vocabulary.end()) {
      ids.push_back(id->second);
    } else {
      for (const char byte : symbol) ids.push_back(vocabulary.at(format("<0x%02X>", static_cast<unsigned char>(byte))));
    }
  }
  return ids;
}

TEST(TokenizerJson, ItsMergesGiveTheSameIds) {
  for (const char* dummy : {"true", "false"}) {
    const Tokenizer tokenizer = trained({{"add_dummy_prefix", dummy}});
    const json content = json::parse(tokenizer_json(tokenizer));
    EXPECT_EQ(content["model"]["type"], "BPE");
    size_t most = 0;
    for (const std::string& text : normalized_texts(/*seed=*/2, 40)) {
      for (const std::string& changed : {text, "unseen \u6f22\u5b57 <s> <0x41> " + text, text.substr(3)}) {
        if (tokenizer.decode(tokenizer.encode(changed)) != changed) continue;  // cut within a character
        std::string prepared;
        for (const char byte : (std::string(dummy) == "true" ? " " : "") + changed)
          prepared += byte == ' ' ? std::string(kBlank) : std::string(1, byte);
        const auto ids = merged(content["model"], prepared);
        EXPECT_EQ(ids, tokenizer.encode(changed)) << changed;
        most = std::max(most, ids.size());
      }
    }
    EXPECT_GT(most, 20u);
  }
}

TEST(TokenizerJson, Steps) {
  const json content = json::parse(tokenizer_json(trained()));
  const json steps = content["normalizer"]["normalizers"];
  ASSERT_EQ(steps.size(), 5u);
  EXPECT_EQ(steps[0]["type"], "Precompiled");
  EXPECT_EQ(steps[3], (json{{"type", "Prepend"}, {"prepend", kBlank}}));
  EXPECT_EQ(content["post_processor"]["special_tokens"]["<s>"]["ids"], json::array({1}));
  EXPECT_EQ(content["decoder"]["decoders"].back()["type"], "Strip");
  EXPECT_EQ(content["model"]["unk_token"], "<unk>");
  ASSERT_EQ(content["added_tokens"].size(), 4u);
  EXPECT_EQ(content["added_tokens"][2]["content"], "</s>");
  const json plain = json::parse(tokenizer_json(
      trained({{"add_dummy_prefix", "false"}, {"normalization_rule_name", "identity"}, {"remove_extra_whitespaces", "false"}})));
  EXPECT_EQ(plain["normalizer"]["normalizers"].size(), 1u);
  EXPECT_EQ(plain["decoder"]["decoders"].back()["type"], "Fuse");
}

TEST(TokenizerJson, Unigram) {
  const Tokenizer tokenizer = trained({{"model_type", "unigram"}});
  const json content = json::parse(tokenizer_json(tokenizer));
  EXPECT_EQ(content["model"]["type"], "Unigram");
  EXPECT_EQ(content["model"]["unk_id"], 3);
  const json& vocabulary = content["model"]["vocab"];
  ASSERT_EQ(vocabulary.size(), static_cast<size_t>(tokenizer.vocab_size()));
  for (int id = 0; id < tokenizer.vocab_size(); ++id) {
    EXPECT_EQ(vocabulary[static_cast<size_t>(id)][0], tokenizer.id_to_piece(id));
    const bool text = !tokenizer.is_control(id) && !tokenizer.is_byte(id) && !tokenizer.is_unknown(id);
    EXPECT_EQ(vocabulary[static_cast<size_t>(id)][1].get<double>(), text ? double{tokenizer.score(id)} : -1e6);
  }
}

TEST(TokenizerJson, ConfigNamesTheSpecialTokens) {
  const json config = json::parse(tokenizer_config_json(trained(), 512));
  EXPECT_EQ(config["bos_token"], "<s>");
  EXPECT_EQ(config["pad_token"], "<pad>");
  EXPECT_EQ(config["model_max_length"], 512);
  const json bare = json::parse(tokenizer_config_json(trained({{"pad_id", "-1"}, {"bos_id", "-1"}}), 512));
  EXPECT_FALSE(bare.contains("bos_token") || bare.contains("pad_token"));
}

TEST(TokenizerJson, WhatItCannotExpressIsRefused) {
  for (const auto& [option, value] : {std::pair("model_type", "char"), {"treat_whitespace_as_suffix", "true"}}) {
    try {
      tokenizer_json(trained({{option, value}}));
      ADD_FAILURE() << option;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_input);
      EXPECT_NE(std::string(error.what()).find("test.model: a tokenizer.json cannot express"), std::string::npos);
    }
  }
}

TEST(SentencePieceContents, AreTheTokenizers) {
  const Tokenizer tokenizer = trained();
  const SentencePieceModel model = tokenizer.contents();
  EXPECT_EQ(model.kind, SentencePieceModel::Kind::bpe);
  EXPECT_TRUE(model.byte_fallback && model.dummy_blank && model.remove_extra_spaces && !model.blank_at_end);
  EXPECT_GT(model.charsmap.size(), 100'000u);
  ASSERT_EQ(static_cast<int>(model.pieces.size()), tokenizer.vocab_size());
  for (int id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto& piece = model.pieces[static_cast<size_t>(id)];
    EXPECT_EQ(piece.text, tokenizer.id_to_piece(id));
    EXPECT_EQ(piece.score, tokenizer.score(id));
    EXPECT_EQ(piece.type == SentencePieceModel::Type::byte, tokenizer.is_byte(id));
    EXPECT_EQ(piece.type == SentencePieceModel::Type::control, tokenizer.is_control(id));
  }
}

TEST(SentencePieceContents, DamagedMessagesAreRefused) {
  for (const std::string& bytes : {std::string("\x0a\x05"
                                               "ab"),
                                   std::string("\x0f"), std::string(12, '\xff'), std::string("\x0d\x01")})
    EXPECT_THROW(read_sentencepiece(bytes, "x.model"), Error);
}

}  // namespace
}  // namespace pgolf::testing
